/* SPDX-License-Identifier: MIT */
/* netd-client(1): the command table and main. */
#include "netd-client/client.h"
#include "netd-client/options.h"

#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

/* The letters are those of long options in options.c. */
#define WHERE "DN"

static const struct command commands[] = {
    {
        .name = "send",
        .arguments = "[MESSAGE...]",
        .help = "send messages, or standard input",
        .options = "fectCk",
        .arguments_max = -1,
        .run = send_run,
    },
    {
        .name = "sessions",
        .arguments = "",
        .help = "list sessions, newest last",
        .options = WHERE "juPoaSUnrlRimy",
        .run = sessions_run,
    },
    {
        .name = "show",
        .arguments = "SESSION",
        .help = "show one session's events",
        .options = WHERE "juPimy",
        .arguments_max = 1,
        .argument_needed = true,
        .run = show_run,
    },
    {
        .name = "cat",
        .arguments = "SESSION",
        .help = "write what the client sent, byte for byte",
        .options = WHERE,
        .arguments_max = 1,
        .argument_needed = true,
        .run = cat_run,
    },
    {
        .name = "follow",
        .arguments = "[SESSION]",
        .help = "show events as they are logged",
        .options = WHERE "junalimy",
        .arguments_max = 1,
        .run = follow_run,
    },
    {
        .name = "verify",
        .arguments = "[SESSION...]",
        .help = "check that nothing is missing",
        .options = WHERE "jPl",
        .arguments_max = -1,
        .run = verify_run,
    },
    {
        .name = "status",
        .arguments = "[FILE]",
        .help = "show what netd does now",
        .options = "juP",
        .arguments_max = 1,
        .run = status_run,
    },
    {
        .name = "doctor",
        .arguments = "",
        .help = "check what decides whether entries arrive and stay",
        .options = "NjtCk",
        .run = doctor_run,
    },
    {
        .name = "metrics",
        .arguments = "[FILE]",
        .help = "print netd's metrics for Prometheus",
        .options = "w",
        .arguments_max = 1,
        .run = metrics_run,
    },
};

/*
 * If one of the descriptors 0 to 2 is closed, the socket or a journal file would get its number.
 * O_PATH descriptors take these numbers; reads and writes still fail with EBADF.
 */
static void main_reserve_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_PATH | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    close_fd(&fd);
}

/* Errors such as a full disk may only show up when the buffer is flushed. */
static int main_finish_output(int status)
{
    int r = flush_standard_output();

    if (r == 0)
        return status;
    return client_fail(status == EXIT_SUCCESS ? EXIT_FAILED : status, "standard output: %s",
                       strerror(-r));
}

int main(int argc, char **argv)
{
    const struct command *command;
    struct options options;
    char **arguments;
    int status;

    main_reserve_descriptors();
    setlocale(LC_CTYPE, "");
    status =
        options_parse(argc, argv, commands, ARRAY_SIZE(commands), &options, &command, &arguments);
    if (status < 0)
        status = command->run(&options, arguments, argc - (int)(arguments - argv));
    return main_finish_output(status);
}
