/* SPDX-License-Identifier: MIT */
/* netd-client(1): the command table and main. */
#include "client/client.h"
#include "client/options.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

static const struct command commands[] = {
    {.name = "send",
     .arguments = "[MESSAGE...]",
     .help = "send messages, or standard input",
     .options = "",
     .arguments_max = -1,
     .run = send_run},
};

/*
 * A descriptor 0 to 2 that the caller left closed would become the connection or the journal.
 * O_PATH occupies its place, and still reads and writes fail.
 */
static void main_occupy_descriptors(void)
{
    int fd;

    do
        fd = open("/dev/null", O_PATH | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    close_fd(&fd);
}

/* What was said may still be in the buffer, and a full disk or a closed pipe show only now. */
static int main_finish_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return client_fail(status == STATUS_OK ? STATUS_FAILED : status, "standard output: %s",
                       strerror(errno));
}

int main(int argc, char **argv)
{
    const struct command *command;
    struct options options;
    char **arguments;
    int status;

    main_occupy_descriptors();
    setlocale(LC_CTYPE, "");
    status =
        options_parse(argc, argv, commands, ARRAY_SIZE(commands), &options, &command, &arguments);
    if (status < 0)
        status = command->run(&options, arguments, argc - (int)(arguments - argv));
    return main_finish_output(status);
}
