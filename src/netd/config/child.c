/* SPDX-License-Identifier: MIT */
#include "netd/config/child.h"

#include "common/names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* The child's, in memory that both have. */
struct answer {
    bool given;
    int result;
    struct config config;
    char error[CONFIG_ERROR_MAX];
};

static _Noreturn void config_give(struct answer *answer, const struct config_input *input)
{
    /* libconfig's last words are none of netd's lines. */
    (void)close(STDERR_FILENO);
    answer->result = config_load(&answer->config, input, answer->error);
    answer->given = true;
    _exit(EXIT_SUCCESS);
}

static int config_none(const char *what, const char *why, char error[static CONFIG_ERROR_MAX])
{
    snprintf(error, CONFIG_ERROR_MAX, "%s: cannot be read: %s", what, why);
    return -ENOMEM;
}

int config_load_apart(struct config *ret, const struct config_input *input,
                      char error[static CONFIG_ERROR_MAX])
{
    const char *file = input->file ? input->file : DEFAULT_CONF;
    struct answer *answer;
    pid_t child;
    int result;

    answer = mmap(NULL, sizeof(*answer), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (answer == MAP_FAILED)
        return config_none(file, strerror(errno), error);
    child = fork();
    if (child == 0)
        config_give(answer, input);
    if (child < 0) {
        result = config_none(file, strerror(errno), error);
    } else {
        /* Not by its status: where SIGCHLD is ignored, there is none. */
        while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
            ;
        result = answer->result;
        if (!answer->given)
            result = config_none(file, "its reader died; out of memory?", error);
        else if (result == 0)
            *ret = answer->config;
        else
            memcpy(error, answer->error, CONFIG_ERROR_MAX);
    }
    (void)munmap(answer, sizeof(*answer));
    return result;
}
