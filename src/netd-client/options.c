/* SPDX-License-Identifier: MIT */
#include "netd-client/options.h"

#include "common/names.h"
#include "netd-client/timestamp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>

#define LINES_LIMIT   1000000000
#define TIMEOUT_LIMIT 31536000 /* seconds: a year */

#define NEAR        2  /* maximum edit distance of a suggested command */
#define COMMAND_MAX 15 /* maximum length of its name */

/* Options accepted by all commands; others are listed in the command table. */
#define GENERAL "HpTqvhV"

static const char short_options[] = ":H:p:T:qvD:S:U:n:rhV"; /* leading ':': see getopt(3) */

static const struct option long_options[] = {
    {"host", required_argument, NULL, 'H'},
    {"port", required_argument, NULL, 'p'},
    {"timeout", required_argument, NULL, 'T'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"framing", required_argument, NULL, 'f'},
    {"relp", no_argument, NULL, 'e'},
    {"reconnect", no_argument, NULL, 'c'},
    {"tls", optional_argument, NULL, 't'},
    {"cert", required_argument, NULL, 'C'},
    {"key", required_argument, NULL, 'k'},
    {"directory", required_argument, NULL, 'D'},
    {"namespace", required_argument, NULL, 'N'},
    {"json", no_argument, NULL, 'j'},
    {"utc", no_argument, NULL, 'u'},
    {"no-pager", no_argument, NULL, 'P'},
    {"open", no_argument, NULL, 'o'},
    {"peer", required_argument, NULL, 'a'},
    {"listener", required_argument, NULL, 'l'},
    {"reason", required_argument, NULL, 'R'},
    {"identifier", required_argument, NULL, 'i'},
    {"hostname", required_argument, NULL, 'm'},
    {"priority", required_argument, NULL, 'y'},
    {"reverse", no_argument, NULL, 'r'},
    {"since", required_argument, NULL, 'S'},
    {"until", required_argument, NULL, 'U'},
    {"lines", required_argument, NULL, 'n'},
    {"http", no_argument, NULL, 'w'},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {NULL, 0, NULL, 0},
};

static const char *options_name(int letter)
{
    for (const struct option *o = long_options; o->name; o++)
        if (o->val == letter)
            return o->name;
    return "";
}

static void options_help(FILE *stream, const struct command *commands, size_t count)
{
    fputs("netd-client [OPTION...] COMMAND ...\n\n"
          "Send messages to netd, and read its sessions back from the journal.\n\n"
          "Commands:\n",
          stream);
    for (size_t i = 0; i < count; i++)
        fprintf(stream, "  %-8s %-14s %s\n", commands[i].name, commands[i].arguments,
                commands[i].help);
    fprintf(stream,
            "\nSESSION is a session ID or any unique prefix of one.\n\n"
            "General options:\n"
            "  -H, --host HOST        address of netd, or /path or @name of its unix socket\n"
            "                         (SERVER_HOST, %s)\n"
            "  -p, --port PORT        port of netd (SERVER_PORT, %d)\n",
            DEFAULT_HOST, DEFAULT_PORT);
    fputs("  -T, --timeout SECONDS  give up after SECONDS without progress (0: never)\n"
          "  -q, --quiet            print less\n"
          "  -v, --verbose          print more\n"
          "  -h, --help             show this help\n"
          "  -V, --version          show the version\n\n"
          "Options of send, those of TLS also of doctor:\n"
          "      --framing FRAMING  line, nul or octet: how each MESSAGE is sent\n"
          "      --relp             send records over RELP, each with an acknowledgement\n"
          "      --reconnect        with --relp: connect again if the connection is lost\n"
          "      --tls[=CA]         send over TLS; CA: file of the certificates to trust\n"
          "      --cert FILE        with --tls: own certificate\n"
          "      --key FILE         its key; without it, the key in the --cert file\n\n"
          "Options of all commands but send, where they apply:\n"
          "  -D, --directory DIR    read the journal files in DIR\n"
          "      --namespace NS     read the journal namespace NS\n"
          "      --json             print one JSON object per line\n"
          "      --utc              show times in UTC\n"
          "      --no-pager         do not use a pager\n\n"
          "Options of sessions:\n"
          "      --open             only open sessions\n"
          "      --reason REASON    only those that ended for this reason\n"
          "  -S, --since TIME       only those that began at or after TIME\n"
          "  -U, --until TIME       only those that began at or before TIME\n"
          "  -r, --reverse          newest first\n"
          "  -n, --lines N          only the last N; follow: start with the last N events\n"
          "      --peer ADDRESS     only those of this client address; also for follow\n"
          "      --listener NAME    only those of this listener; also for follow and verify\n\n"
          "Options of sessions, show and follow, for records in syslog format:\n"
          "      --identifier NAME  only records of this program, or sessions with one\n"
          "      --hostname NAME    only those from this host\n"
          "      --priority LEVEL   only those with at least this severity (emerg to debug)\n\n"
          "Options of metrics:\n"
          "      --http             answer an HTTP request on standard input\n\n"
          "See netd-client(1).\n",
          stream);
}

/* Parses TEXT as a number up to MAX. Returns -1 or EXIT_USAGE. */
static int options_number(int letter, const char *text, uint64_t max, uint64_t *ret)
{
    int r = parse_u64(text, max, ret);

    if (r == -ERANGE)
        return client_fail(EXIT_USAGE, "--%s: %s is not between 0 and %ju", options_name(letter),
                           text, (uintmax_t)max);
    if (r < 0)
        return client_fail(EXIT_USAGE, "--%s: '%s' is not a number", options_name(letter), text);
    return -1;
}

/* True for "--json=x". "-j" is not an option, although --json has a letter. */
static bool options_was_long(const char *word)
{
    return strncmp(word, "--", 2) == 0 && strchr(word, '=');
}

static int options_fail_unknown(char **argv, const char *option)
{
    for (char **word = argv + 1; word < argv + optind - 1; word++)
        if (strcmp(*word, "send") == 0)
            return client_fail(EXIT_USAGE,
                               "unknown option '%s'; put -- before a message that begins with '-'",
                               option);
    return client_fail(EXIT_USAGE, "unknown option '%s'; see --help", option);
}

/* Reports an error of getopt_long(3), which returned RESULT, '?' or ':'. */
static int options_fail_getopt(char **argv, int result)
{
    char option[] = {'-', (char)optopt, '\0'};

    if (result == ':')
        return client_fail(EXIT_USAGE, "--%s requires a value", options_name(optopt));
    if (*options_name(optopt) && options_was_long(argv[optind - 1]))
        return client_fail(EXIT_USAGE, "--%s takes no value", options_name(optopt));
    return options_fail_unknown(argv, optopt ? option : argv[optind - 1]);
}

static int options_time(int letter, const char *text, uint64_t *ret)
{
    int r = timestamp_parse(text, now_usec(CLOCK_REALTIME), ret);

    if (r == -EOPNOTSUPP)
        return client_fail(EXIT_USAGE,
                           "--%s: '%s' names a time zone; use UTC, an offset such as +01:00, or TZ",
                           options_name(letter), text);
    if (r < 0)
        return client_fail(EXIT_USAGE, "--%s: '%s' is not a time", options_name(letter), text);
    return -1;
}

static int options_text(int letter, const char *text, const char **ret)
{
    if (*text == '\0')
        return client_fail(EXIT_USAGE, "--%s is empty", options_name(letter));
    *ret = text;
    return -1;
}

/* Parses ADDRESS, a full IPv4 or IPv6 address, optionally in brackets, and formats it as in the
 * journal. The scope is not looked up, because the interface may be that of another host. */
static bool options_parse_peer(const char *address, char ret[static ENDPOINT_ADDRESS_MAX])
{
    size_t length = strlen(address);
    bool bracket = *address == '[' && address[length - 1] == ']';
    char bare[ENDPOINT_ADDRESS_MAX], *scope;
    struct sockaddr_storage sa = {0};
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&sa;
    struct endpoint endpoint;
    bool valid;

    if (length >= sizeof(bare))
        return false;
    snprintf(bare, sizeof(bare), "%.*s", (int)length - 2 * bracket, address + bracket);
    scope = strchr(bare, '%');
    if (scope)
        *scope++ = '\0';
    sa.ss_family = bracket || scope || strchr(bare, ':') ? AF_INET6 : AF_INET;
    if (sa.ss_family == AF_INET6)
        valid = inet_pton(AF_INET6, bare, &in6->sin6_addr) == 1 && !(scope && *scope == '\0');
    else
        valid = inet_pton(AF_INET, bare, &((struct sockaddr_in *)&sa)->sin_addr) == 1;
    if (!valid)
        return false;
    endpoint_from_sockaddr(&endpoint, &sa, sizeof(sa));
    endpoint_address(&endpoint, ret);
    if (scope)
        snprintf(ret + strlen(ret), ENDPOINT_ADDRESS_MAX - strlen(ret), "%%%s", scope);
    return true;
}

static int options_peer(struct options *options, const char *address)
{
    if (strcmp(address, "unix") == 0)
        strcpy(options->peer, address);
    else if (!options_parse_peer(address, options->peer))
        return client_fail(EXIT_USAGE, "--peer: '%s' is not an IPv4 or IPv6 address", address);
    return -1;
}

static int options_framing(struct options *options, const char *text)
{
    static const char *const words[] = {
        [SEND_LINE] = "line", [SEND_NUL] = "nul", [SEND_OCTET] = "octet"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(text, words[i]) == 0) {
            options->framing = (enum send_framing)i;
            return -1;
        }
    return client_fail(EXIT_USAGE,
                       "--framing: invalid framing '%s'; expected one of line, nul, octet", text);
}

/* The names of severities, which are also in <syslog.h>, or their numbers. */
static int options_priority(struct options *options, const char *text)
{
    static const char *const words[] = {"emerg",   "alert",  "crit", "err",
                                        "warning", "notice", "info", "debug"};

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(text, words[i]) == 0 || (text[0] == (char)('0' + i) && !text[1])) {
            options->priority = (int)i;
            return -1;
        }
    return client_fail(EXIT_USAGE,
                       "--priority: invalid level '%s'; expected one of emerg, alert, crit, err, "
                       "warning, notice, info, debug, or 0 to 7",
                       text);
}

static int options_take(struct options *options, int letter)
{
    uint64_t seconds;
    int r;

    switch (letter) {
    case 'H':
        options->host = optarg;
        break;
    case 'p':
        options->port = optarg;
        break;
    case 'T':
        r = options_number(letter, optarg, TIMEOUT_LIMIT, &seconds);
        if (r >= 0)
            return r;
        options->timeout = seconds * USEC_PER_SEC;
        break;
    case 'q':
        options->quiet = true;
        break;
    case 'v':
        options->verbose = true;
        break;
    case 'e':
        options->relp = true;
        break;
    case 'c':
        options->reconnect = true;
        break;
    case 't':
        options->tls = true;
        return optarg ? options_text(letter, optarg, &options->ca) : -1;
    case 'C':
        return options_text(letter, optarg, &options->cert);
    case 'k':
        return options_text(letter, optarg, &options->key);
    case 'f':
        return options_framing(options, optarg);
    case 'D':
        return options_text(letter, optarg, &options->directory);
    case 'N':
        options->name_space = optarg;
        break;
    case 'j':
        options->json = true;
        break;
    case 'u':
        options->utc = true;
        break;
    case 'P':
        options->no_pager = true;
        break;
    case 'o':
        options->open = true;
        break;
    case 'a':
        return options_peer(options, optarg);
    case 'l':
        return options_text(letter, optarg, &options->listener);
    case 'R':
        return options_text(letter, optarg, &options->reason);
    case 'i':
        return options_text(letter, optarg, &options->identifier);
    case 'm':
        return options_text(letter, optarg, &options->hostname);
    case 'y':
        return options_priority(options, optarg);
    case 'r':
        options->reverse = true;
        break;
    case 'S':
        return options_time(letter, optarg, &options->since);
    case 'U':
        return options_time(letter, optarg, &options->until);
    case 'n':
        return options_number(letter, optarg, LINES_LIMIT, &options->lines);
    case 'w':
        options->http = true;
        break;
    case 'V':
        puts("netd-client " NETD_VERSION);
        return EXIT_SUCCESS;
    }
    return -1;
}

static const struct command *options_command(const struct command *commands, size_t count,
                                             const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Number of insertions, deletions, substitutions and transpositions of adjacent characters that
 * turn A into B (optimal string alignment distance). B has at most COMMAND_MAX characters. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][COMMAND_MAX + 1], *before = rows[0], *above = rows[1], *row = rows[2];
    size_t columns = strlen(b);

    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t *spare = before;

        before = above;
        above = row;
        row = spare;
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            row[j] = min_size(above[j - 1] + (a[i - 1] != b[j - 1]), above[j] + 1);
            row[j] = min_size(row[j], row[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = min_size(row[j], before[j - 2] + 1);
        }
    }
    return row[columns];
}

static int options_fail_command(const struct command *commands, size_t count, const char *name)
{
    const char *nearest = NULL;
    size_t distance = NEAR + 1;

    for (size_t i = 0; i < count; i++) {
        size_t d = strlen(commands[i].name) <= COMMAND_MAX ? edit_distance(name, commands[i].name)
                                                           : distance;

        if (d < distance && d < strlen(commands[i].name)) {
            nearest = commands[i].name;
            distance = d;
        }
    }
    if (nearest)
        return client_fail(EXIT_USAGE, "unknown command '%s'; did you mean '%s'?", name, nearest);
    return client_fail(EXIT_USAGE, "unknown command '%s'; see --help", name);
}

/* Checks the combination of options, by their letters in SEEN, and COUNT ARGUMENTS. */
static int options_check(const struct options *options, const struct command *command,
                         const char *seen, char **arguments, int count)
{
    for (const char *letter = seen; *letter; letter++)
        if (!strchr(GENERAL, *letter) && !strchr(command->options, *letter))
            return client_fail(EXIT_USAGE, "%s: unexpected option '--%s'", command->name,
                               options_name(*letter));
    if (command->argument_needed && count == 0)
        return client_fail(EXIT_USAGE, "%s requires a %s", command->name, command->arguments);
    if (command->arguments_max >= 0 && count > command->arguments_max)
        return client_fail(EXIT_USAGE, "%s: unexpected argument '%s'", command->name,
                           arguments[command->arguments_max]);
    if (count > 0 && (*options->peer || options->listener))
        return client_fail(EXIT_USAGE, "%s: --%s cannot be combined with a session", command->name,
                           *options->peer ? "peer" : "listener");
    if (options->relp && strchr(seen, 'f'))
        return client_fail(EXIT_USAGE, "--relp and --framing are mutually exclusive");
    if (options->reconnect && !options->relp)
        return client_fail(EXIT_USAGE, "--reconnect requires --relp");
    if ((options->cert || options->key) && !options->tls)
        return client_fail(EXIT_USAGE, "--%s requires --tls", options->cert ? "cert" : "key");
    if (options->key && !options->cert)
        return client_fail(EXIT_USAGE, "--key requires --cert");
    if (options->open && options->reason)
        return client_fail(EXIT_USAGE, "--open and --reason are mutually exclusive");
    if (options->directory && options->name_space)
        return client_fail(EXIT_USAGE, "--directory and --namespace are mutually exclusive");
    if (options->since > options->until)
        return client_fail(EXIT_USAGE, "--since is later than --until");
    return -1;
}

int options_parse(int argc, char **argv, const struct command *commands, size_t count,
                  struct options *options, const struct command **command, char ***arguments)
{
    struct options read = {.until = UINT64_MAX, .lines = UINT64_MAX, .priority = LOG_DEBUG};
    char seen[ARRAY_SIZE(long_options)] = ""; /* letters, each once */
    int letter, r;

    while ((letter = getopt_long(argc, argv, short_options, long_options, NULL)) >= 0) {
        if (letter == '?' || letter == ':')
            return options_fail_getopt(argv, letter);
        if (letter == 'h') {
            options_help(stdout, commands, count);
            return EXIT_SUCCESS;
        }
        r = options_take(&read, letter);
        if (r >= 0)
            return r;
        if (!strchr(seen, letter))
            seen[strlen(seen)] = (char)letter;
    }
    if (optind == argc) {
        options_help(stderr, commands, count);
        return EXIT_USAGE;
    }
    *command = options_command(commands, count, argv[optind]);
    if (!*command)
        return options_fail_command(commands, count, argv[optind]);
    optind++;
    r = options_check(&read, *command, seen, argv + optind, argc - optind);
    if (r >= 0)
        return r;
    read.selects = strpbrk(seen, "imy");
    *options = read;
    *arguments = argv + optind;
    return -1;
}
