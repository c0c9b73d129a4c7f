/* SPDX-License-Identifier: MIT */
#include "netd-client/options.h"

#include "common/names.h"
#include "netd-client/timeword.h"

#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)

#define LINES_HIGH   1000000000
#define TIMEOUT_HIGH 31536000 /* seconds: a year */

/* Letters that every command takes; the others are in the command table's rows. */
#define GENERAL "HpTqvhV"

static const char short_options[] = ":H:p:T:qvD:S:U:n:hV"; /* ':' first: see getopt(3) */

static const struct option long_options[] = {
    {"host", required_argument, NULL, 'H'},
    {"port", required_argument, NULL, 'p'},
    {"timeout", required_argument, NULL, 'T'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"directory", required_argument, NULL, 'D'},
    {"namespace", required_argument, NULL, 'N'},
    {"json", no_argument, NULL, 'j'},
    {"utc", no_argument, NULL, 'u'},
    {"no-pager", no_argument, NULL, 'P'},
    {"open", no_argument, NULL, 'o'},
    {"peer", required_argument, NULL, 'a'},
    {"since", required_argument, NULL, 'S'},
    {"until", required_argument, NULL, 'U'},
    {"lines", required_argument, NULL, 'n'},
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

static int options_help(const struct command *commands, size_t count)
{
    puts("netd-client [OPTION...] COMMAND ...\n\n"
         "Sends messages to netd, and reads its sessions back from the journal.\n\n"
         "Commands:");
    for (size_t i = 0; i < count; i++)
        printf("  %-8s %-14s %s\n", commands[i].name, commands[i].arguments, commands[i].help);
    puts("\nSESSION is a session id, or a beginning of one that only one session has.\n\n"
         "General options:\n"
         "  -H, --host HOST        where netd listens (SERVER_HOST, " DEFAULT_HOST ")\n"
         "  -p, --port PORT        (SERVER_PORT, " STRINGIFY(
             DEFAULT_PORT) ")\n"
                           "  -T, --timeout SECONDS  longest time without progress (no limit)\n"
                           "  -q, --quiet            say less\n"
                           "  -v, --verbose          say more\n"
                           "  -h, --help\n"
                           "  -V, --version\n\n"
                           "Options of all commands but send, where they make sense:\n"
                           "  -D, --directory DIR    journal files to read\n"
                           "      --namespace NS     journal namespace to read\n"
                           "      --json             one object a line\n"
                           "      --utc              times in UTC\n"
                           "      --no-pager\n\n"
                           "Options of sessions:\n"
                           "      --open             only those that go on\n"
                           "      --peer ADDRESS     only those of this client\n"
                           "  -S, --since TIME       only those that began then or later\n"
                           "  -U, --until TIME       only those that began then or before\n"
                           "  -n, --lines N          only the last N (follow: begin with the last "
                           "N events)\n\n"
                           "See netd-client(1).");
    return STATUS_OK;
}

/* TEXT as a number up to MAX; complains about --NAME. Returns -1 or STATUS_USAGE. */
static int options_number(int letter, const char *text, uint64_t max, uint64_t *ret)
{
    int r = parse_u64(text, max, ret);

    if (r == -ERANGE)
        return client_fail(STATUS_USAGE, "--%s: %s is not between 0 and %ju", options_name(letter),
                           text, (uintmax_t)max);
    if (r < 0)
        return client_fail(STATUS_USAGE, "--%s: '%s' is not a number", options_name(letter), text);
    return -1;
}

/* True for "--json=x"; "-j" is no option, though the table has a letter for --json. */
static bool options_was_long(const char *word)
{
    return strncmp(word, "--", 2) == 0 && strchr(word, '=');
}

/* Says what getopt_long() found wrong: RESULT is '?' or ':'. */
static int options_complain(char **argv, int result)
{
    if (result == ':')
        return client_fail(STATUS_USAGE, "--%s: a value is missing", options_name(optopt));
    if (*options_name(optopt) && options_was_long(argv[optind - 1]))
        return client_fail(STATUS_USAGE, "--%s: takes no value", options_name(optopt));
    if (optopt)
        return client_fail(STATUS_USAGE, "'-%c' is not an option, see --help", optopt);
    return client_fail(STATUS_USAGE, "'%s' is not an option, see --help", argv[optind - 1]);
}

static int options_time(int letter, const char *text, uint64_t *ret)
{
    int r = timeword_parse(text, now_usec(CLOCK_REALTIME), ret);

    if (r == -EINVAL)
        return client_fail(STATUS_USAGE, "--%s: '%s' is not a time", options_name(letter), text);
    if (r < 0)
        return client_fail(STATUS_FAILED, "--%s: '%s': %s", options_name(letter), text,
                           strerror(-r));
    return -1;
}

/* ADDRESS, in whatever way it is written, the way the journal has it. */
static int options_peer(struct options *options, const char *address)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage sa = {0};
    struct endpoint endpoint = {.family = AF_UNIX};
    struct addrinfo *found = NULL;
    char bare[HOST_MAX + 1];
    bool bracket = *address == '[' && address[strlen(address) - 1] == ']';

    if (strcmp(address, "unix") != 0) {
        snprintf(bare, sizeof(bare), "%.*s", (int)min_size(strlen(address), HOST_MAX) - 2 * bracket,
                 address + bracket);
        if (getaddrinfo(bare, NULL, &hints, &found) != 0)
            return client_fail(STATUS_USAGE, "--peer: '%s' is not an address", address);
        memcpy(&sa, found->ai_addr, min_size(sizeof(sa), found->ai_addrlen));
        endpoint_from_sockaddr(&endpoint, &sa, found->ai_addrlen);
        freeaddrinfo(found);
    }
    endpoint_address(&endpoint, options->peer);
    return -1;
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
        r = options_number(letter, optarg, TIMEOUT_HIGH, &seconds);
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
    case 'D':
        if (*optarg == '\0')
            return client_fail(STATUS_USAGE, "--directory: it is empty");
        options->directory = optarg;
        break;
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
    case 'S':
        return options_time(letter, optarg, &options->since);
    case 'U':
        return options_time(letter, optarg, &options->until);
    case 'n':
        return options_number(letter, optarg, LINES_HIGH, &options->lines);
    case 'V':
        puts("netd-client " NETD_VERSION);
        return STATUS_OK;
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

/* Checks what only all together can tell: the letters in SEEN, and COUNT words. */
static int options_check(const struct options *options, const struct command *command,
                         const char *seen, int count)
{
    for (const char *letter = seen; *letter; letter++)
        if (!strchr(GENERAL, *letter) && !strchr(command->options, *letter))
            return client_fail(STATUS_USAGE, "--%s: not an option of '%s'", options_name(*letter),
                               command->name);
    if (command->argument_needed && count == 0)
        return client_fail(STATUS_USAGE, "%s: %s is missing", command->name, command->arguments);
    if (command->arguments_max >= 0 && count > command->arguments_max)
        return client_fail(STATUS_USAGE, "%s: too many arguments", command->name);
    if (options->directory && options->name_space)
        return client_fail(STATUS_USAGE, "--directory and --namespace exclude each other");
    if (options->since > options->until)
        return client_fail(STATUS_USAGE, "--since: that is later than --until");
    return -1;
}

int options_parse(int argc, char **argv, const struct command *commands, size_t count,
                  struct options *options, const struct command **command, char ***arguments)
{
    struct options read = {.until = UINT64_MAX, .lines = UINT64_MAX};
    char seen[64] = "";
    int letter, r;

    while ((letter = getopt_long(argc, argv, short_options, long_options, NULL)) >= 0) {
        if (letter == '?' || letter == ':')
            return options_complain(argv, letter);
        if (letter == 'h')
            return options_help(commands, count);
        r = options_take(&read, letter);
        if (r >= 0)
            return r;
        if (!strchr(seen, letter))
            seen[strlen(seen)] = (char)letter;
    }
    if (optind == argc)
        return client_fail(STATUS_USAGE, "a command is missing, see --help");
    *command = options_command(commands, count, argv[optind]);
    if (!*command)
        return client_fail(STATUS_USAGE, "'%s' is not a command, see --help", argv[optind]);
    optind++;
    r = options_check(&read, *command, seen, argc - optind);
    if (r >= 0)
        return r;
    *options = read;
    *arguments = argv + optind;
    return -1;
}
