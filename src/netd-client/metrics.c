/* SPDX-License-Identifier: MIT */
/* metrics: the file that netd writes, as it is or as the answer to an HTTP request. */
#include "netd-client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* The most bytes and the longest time (microseconds) that a request may have. */
#define REQUEST_MAX  8192
#define REQUEST_USEC (10 * USEC_PER_SEC)

/* How long to read on after the answer: closing with unread bytes would make it a reset. */
#define DRAIN_USEC USEC_PER_SEC

FILE *metrics_open(const char *path, int *ret)
{
    FILE *f = fopen(path, "re");

    if (!f)
        *ret = client_fail(EXIT_UNAVAILABLE, "%s: %s%s", path, strerror(errno),
                           errno == ENOENT ? "; is netd running?" : "");
    return f;
}

/* Copies F to standard output, where main() reports errors. Returns an exit status. */
static int metrics_copy(FILE *f, const char *path)
{
    char block[16384];
    size_t n;

    while ((n = fread(block, 1, sizeof(block), f)) > 0)
        if (fwrite(block, 1, n, stdout) < n)
            return EXIT_FAILED;
    return ferror(f) ? client_fail(EXIT_UNAVAILABLE, "%s: %s", path, strerror(errno))
                     : EXIT_SUCCESS;
}

/* --- HTTP/1.1 (RFC 9112): one request, and the end --- */

/* Waits for input until END (CLOCK_MONOTONIC) and reads up to SIZE bytes. Returns their number, 0
 * at the end of the input, or a negative errno. */
static ssize_t http_read(char *at, size_t size, uint64_t end)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    ssize_t n;

    if (now >= end || poll(&input, 1, (int)((end - now) / USEC_PER_MSEC) + 1) == 0)
        return -ETIMEDOUT;
    n = read(STDIN_FILENO, at, size);
    return n < 0 ? -errno : n;
}

/* Reads a request up to the empty line that ends its head. Returns 0 or a negative errno. */
static int http_receive(char request[static REQUEST_MAX + 1], uint64_t timeout)
{
    uint64_t end = now_usec(CLOCK_MONOTONIC) + timeout;
    size_t length = 0;

    request[0] = '\0';
    while (!strstr(request, "\r\n\r\n") && !strstr(request, "\n\n")) {
        ssize_t n = http_read(request + length, REQUEST_MAX - length, end);

        if (n <= 0)
            return n < 0 ? (int)n : length == REQUEST_MAX ? -EMSGSIZE : -ENODATA;
        if (memchr(request + length, '\0', (size_t)n))
            return -EBADMSG;
        length += (size_t)n;
        request[length] = '\0';
    }
    return 0;
}

/* Returns the status of the answer to REQUEST, and whether it has no body. */
static const char *http_decide(char *request, bool *head)
{
    const char *method = strtok(request, " "), *target = strtok(NULL, " ");
    const char *version = strtok(NULL, "\r\n");

    if (!version || strncmp(version, "HTTP/1.", 7) != 0 || *target != '/')
        return "400 Bad Request";
    *head = strcmp(method, "HEAD") == 0;
    if (!*head && strcmp(method, "GET") != 0)
        return "405 Method Not Allowed";
    if (strcspn(target, "?") != strlen("/metrics") || strncmp(target, "/metrics", 8) != 0)
        return "404 Not Found";
    return "200 OK";
}

static void http_drain(void)
{
    uint64_t end = now_usec(CLOCK_MONOTONIC) + DRAIN_USEC;
    char discard[4096];

    fflush(stdout);
    if (shutdown(STDOUT_FILENO, SHUT_WR) == 0)
        while (http_read(discard, sizeof(discard), end) > 0)
            ;
}

/* Answers with STATUS and F, the file PATH, or without it with STATUS as text. */
static int http_answer(const char *status, bool head, FILE *f, const char *path)
{
    struct stat st = {0};
    bool good = f && fstat(fileno(f), &st) == 0;
    size_t length = good ? (size_t)st.st_size : strlen(status) + 1;
    int r = EXIT_SUCCESS;

    printf("HTTP/1.1 %s\r\n"
           "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
           "Content-Length: %zu\r\n"
           "%sConnection: close\r\n\r\n",
           status, length, strncmp(status, "405", 3) == 0 ? "Allow: GET, HEAD\r\n" : "");
    if (!head && good)
        r = metrics_copy(f, path);
    else if (!head)
        printf("%s\n", status);
    http_drain();
    return r;
}

/* Returns the exit status. Who asks for what is not there has an answer: that is no failure. */
static int http_run(const char *path, uint64_t timeout)
{
    char request[REQUEST_MAX + 1];
    const char *status;
    bool head = false;
    FILE *f = NULL;
    int r;

    r = http_receive(request, timeout);
    if (r == -ENODATA && request[0] == '\0')
        return EXIT_SUCCESS; /* connected, and nothing more: a check of the port */
    if (r == -ETIMEDOUT)
        status = "408 Request Timeout";
    else if (r == -EMSGSIZE)
        status = "431 Request Header Fields Too Large";
    else
        status = r < 0 ? "400 Bad Request" : http_decide(request, &head);
    if (status[0] == '2' && !(f = metrics_open(path, &r)))
        status = "503 Service Unavailable";
    r = http_answer(status, head, f, path);
    if (f)
        fclose(f);
    return r;
}

int metrics_run(const struct options *options, char **arguments, int count)
{
    const char *path = count > 0 ? arguments[0] : METRICS_PATH;
    FILE *f;
    int r;

    if (options->http)
        return http_run(path, options->timeout > 0 ? options->timeout : REQUEST_USEC);
    f = metrics_open(path, &r);
    if (!f)
        return r;
    r = metrics_copy(f, path);
    fclose(f);
    return r;
}
