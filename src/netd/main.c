/* SPDX-License-Identifier: MIT */
/* netd(8): options, configuration, run. */
#include "common/escape.h"
#include "common/exit-status.h"
#include "common/names.h"
#include "common/util.h"
#include "netd/log.h"
#include "netd/supervisor/checker.h"
#include "netd/supervisor/reload.h"
#include "netd/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void netd_help(FILE *f)
{
    fprintf(f, "Usage: netd [OPTION]...\n"
               "Accept TCP clients and write what they send to the systemd journal.\n"
               "\n"
               "  -c, --config=FILE    configuration (default " DEFAULT_CONF ")\n"
               "  -H, --host=HOST      address to listen on: IPv4, IPv6, a name, or * for all\n"
               "  -p, --port=PORT      port to listen on, 0 for a free one\n"
               "  -o, --output=OUTPUT  auto, journal, text or export\n"
               "  -t, --check          check the configuration, print nothing when it is good\n"
               "      --reload=PID     have that netd reload, and wait for the outcome\n"
               "  -T, --print-config   check the configuration, and print it in full\n"
               "  -V, --version        show the version\n"
               "  -h, --help           show this help\n"
               "\n"
               "SERVER_HOST and SERVER_PORT in the environment override the configuration;\n"
               "options override both. Sockets passed by systemd replace the address altogether.\n"
               "See netd(8) and netd.conf(5).\n");
}

/* Flushes standard output. Returns the exit status. */
static int netd_finish_output(void)
{
    int r = flush_standard_output();

    if (r == 0)
        return EXIT_SUCCESS;
    log_error("standard output: %s", strerror(-r));
    return EXIT_FAILED;
}

static int netd_usage_error(const char *before, const char *word, const char *after)
{
    char shown[80];

    escape_copy(shown, sizeof(shown), word, strlen(word));
    log_error("%s '%s'%s, see --help", before, shown, after);
    return EXIT_USAGE;
}

/* Reports the error RESULT, '?' or ':', of getopt_long(3). */
static int netd_option_error(char **argv, int result)
{
    char letter[] = {'-', (char)optopt, '\0'};

    if (result == ':')
        return netd_usage_error("option", argv[optind - 1], " needs a value");
    if (optopt == 0)
        return netd_usage_error("unknown option", argv[optind - 1], "");
    if (strchr("tTVh", optopt)) /* a known long option with "=VALUE" */
        return netd_usage_error("option", argv[optind - 1], " takes no value");
    return netd_usage_error("unknown option", letter, "");
}

/* Opens /dev/null as 0, 1 and 2 if they are closed, so that no connection gets these numbers.
 * Read-only: writing to them fails instead of being silently lost. */
static int netd_fill_standard_fds(void)
{
    /* open(2) uses the lowest free number, which is this one. */
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) < 0)
            return -errno;
    return 0;
}

/* Raises the soft limit of open files to the hard one, for sessions.max. Returns it, or 0 if it is
 * unknown. */
static uint64_t netd_raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
            return 0;
    }
    return limit.rlim_cur;
}

static int netd_reload(const char *supervisor)
{
    uint64_t pid;

    if (parse_u64(supervisor, INT32_MAX, &pid) < 0 || pid == 0)
        return netd_usage_error("--reload:", supervisor, " is not a process ID");
    return reload_request((pid_t)pid);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"host", required_argument, NULL, 'H'},
        {"port", required_argument, NULL, 'p'},   {"output", required_argument, NULL, 'o'},
        {"check", no_argument, NULL, 't'},        {"print-config", no_argument, NULL, 'T'},
        {"version", no_argument, NULL, 'V'},      {"help", no_argument, NULL, 'h'},
        {"reload", required_argument, NULL, 'r'}, {0},
    };
    struct config_input input = {.env_host = getenv("SERVER_HOST"),
                                 .env_port = getenv("SERVER_PORT"),
                                 .credentials = getenv("CREDENTIALS_DIRECTORY")};
    const char *supervisor = NULL;
    bool check = false, print = false;
    int c, r;

    log_init();
    r = netd_fill_standard_fds();
    if (r < 0) {
        log_error("/dev/null: %s", strerror(-r));
        return EXIT_FAILED;
    }
    while ((c = getopt_long(argc, argv, ":c:H:p:o:tTVh", options, NULL)) >= 0) {
        switch (c) {
        case 'c':
            input.file = optarg;
            break;
        case 'H':
            input.option_host = optarg;
            break;
        case 'p':
            input.option_port = optarg;
            break;
        case 'o':
            input.option_output = optarg;
            break;
        case 't':
            check = true;
            break;
        case 'T':
            print = true;
            break;
        case 'r': /* has no short form */
            supervisor = optarg;
            break;
        case 'V':
            puts("netd " NETD_VERSION);
            return netd_finish_output();
        case 'h':
            netd_help(stdout);
            return netd_finish_output();
        default:
            return netd_option_error(argv, c);
        }
    }
    if (optind < argc)
        return netd_usage_error("unexpected argument", argv[optind], "");

    if (supervisor)
        return netd_reload(supervisor);
    input.descriptors = netd_raise_limit();
    if (check || print) {
        r = checker_main(&input, print ? stdout : NULL);
        return print && r == EXIT_SUCCESS ? netd_finish_output() : r;
    }
    return supervisor_run(&input, argv);
}
