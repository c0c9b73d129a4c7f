/* SPDX-License-Identifier: MIT */
/* netd-tls: TLS outside, plain bytes inside. Started by netd, see interface.h. */
#include "common/exit-status.h"
#include "common/names.h"
#include "common/util.h"
#include "netd-tls/sandbox.h"
#include "netd-tls/server.h"
#include "netd/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Sends the one line of the answer to the parent, or prints it where there is none. Returns false
 * if it cannot. */
static bool answer(const char *line)
{
    const size_t length = strlen(line);

    if (send(TLS_FD_CONTROL, line, length, MSG_NOSIGNAL) >= 0 ||
        (errno == ENOTSOCK && write(TLS_FD_CONTROL, line, length) >= 0))
        return true;
    log_error("TLS: cannot answer: %s", strerror(errno));
    return false;
}

static int answer_error(int listener, const char *text, int r)
{
    char line[TLS_ERROR_MAX + 64], id[16] = "-";

    if (listener >= 0)
        (void)snprintf(id, sizeof(id), "%d", listener);
    (void)snprintf(line, sizeof(line), "error %s %s\n", id, text);
    (void)answer(line);
    return r == -EINVAL ? EXIT_CONFIG : EXIT_FAILED;
}

static bool is_listener(const struct tls_settings *settings, int fd)
{
    for (uint32_t i = 0; i < settings->n_listeners; i++)
        if (settings->listeners[i].fd == fd)
            return true;
    return false;
}

/* Closes all descriptors but the ones of interface.h. */
static void close_others(const struct tls_settings *settings)
{
    int highest = TLS_FD_FIRST - 1;

    for (uint32_t i = 0; i < settings->n_listeners; i++)
        if (settings->listeners[i].fd > highest)
            highest = settings->listeners[i].fd;
    for (int fd = TLS_FD_FIRST; fd < highest; fd++)
        if (!is_listener(settings, fd))
            (void)close(fd);
    (void)close_range((unsigned)highest + 1, ~0U, 0);
}

static struct tls_counters *map_counters(void)
{
    void *map = mmap(NULL, sizeof(struct tls_counters), PROT_READ | PROT_WRITE, MAP_SHARED,
                     TLS_FD_COUNTERS, 0);

    return map == MAP_FAILED ? NULL : map;
}

/* Returns the exit status. */
static int serve(struct server *server)
{
    struct tls_counters *counters = map_counters();
    int r = counters ? server_start(server, counters, TLS_FD_CONTROL) : -errno;

    (void)close(TLS_FD_SETTINGS);
    if (r == 0)
        r = sandbox_enter();
    if (r < 0)
        return answer_error(-1, strerror(-r), r == -EINVAL ? -EIO : r);
    if (!answer("ready\n"))
        return EXIT_FAILED; /* the parent would wait for it */
    while (r == 0 && !server_is_done(server))
        r = server_step(server, -1);
    if (r < 0)
        log_error("TLS: %s", strerror(-r));
    return r < 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

static int run(const struct tls_settings *settings, bool check)
{
    char error[TLS_ERROR_MAX + 1];
    struct server server;
    int faulty = -1, r = server_load(&server, settings, check, error, &faulty), status;

    if (r < 0) {
        status = answer_error(faulty, error, r);
    } else if (check) {
        status = answer("ready\n") ? EXIT_SUCCESS : EXIT_FAILED;
    } else {
        status = serve(&server);
    }
    server_deinit(&server);
    return status;
}

static int start(bool check)
{
    struct tls_settings *settings;
    int r = tls_settings_load(&settings, TLS_FD_SETTINGS), status;

    if (r < 0)
        return answer_error(-1,
                            r == -EPROTONOSUPPORT ? "netd and netd-tls are of different versions"
                                                  : strerror(-r),
                            -EIO);
    if (check)
        (void)close_range(TLS_FD_COUNTERS, ~0U, 0);
    else
        close_others(settings);
    status = run(settings, check);
    free(settings);
    return status;
}

int main(int argc, char **argv)
{
    const bool check = argc == 2 && strcmp(argv[1], "--check") == 0;

    log_init();
    if (argc > 1 && !check) {
        log_error("netd-tls is started by netd, see netd(8)");
        return EXIT_USAGE;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    return start(check);
}
