/* SPDX-License-Identifier: MIT */
/*
 * send: sends everything over one connection and waits for the receipt. netd does not write before
 * the session ends, so that readable data before the end of the input means that netd ended it.
 */
#include "netd-client/client.h"
#include "netd-client/connect.h"
#include "netd-client/output.h"
#include "netd-client/receipt.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_SIZE    ((size_t)256 * 1024)
#define TICK_USEC      (200 * USEC_PER_MSEC) /* interval of checks for progress */
#define PROGRESS_AFTER USEC_PER_SEC

/* The messages to send; "-" is standard input. */
struct input {
    char **words;
    int count;
    enum send_framing framing;
    int at;        /* index of the current word */
    size_t offset; /* bytes of it already read */
};

struct sender {
    int socket;
    uint64_t timeout; /* microseconds without progress; 0: no limit */
    bool progress;    /* show the progress line */
    bool hint;        /* print a hint before reading from the terminal */
    uint64_t shown;   /* when the progress line was last drawn; 0: not drawn */
    struct input input;
    char *buffer;
    size_t begin, end;        /* unsent part of the buffer */
    uint64_t sent;            /* bytes passed to the kernel */
    uint64_t started, moved;  /* CLOCK_MONOTONIC, microseconds; moved: of the last progress */
    int queued;               /* last value of SIOCOUTQ */
    char answer[RECEIPT_MAX]; /* received from netd */
    size_t answered;
};

/* Why sending stopped, besides negative errnos for errors of the connection. */
enum { SEND_DONE = 0, SEND_ANSWERED, SEND_INPUT_ERROR };

/* --- The input --- */

static const char *input_word(const struct input *input)
{
    return input->at < input->count ? input->words[input->at] : NULL;
}

static bool input_is_stdin(const struct input *input)
{
    const char *word = input_word(input);

    return word && strcmp(word, "-") == 0;
}

static bool input_has_stdin(const struct input *input)
{
    for (int i = 0; i < input->count; i++)
        if (strcmp(input->words[i], "-") == 0)
            return true;
    return false;
}

static void input_next(struct input *input)
{
    input->at++;
    input->offset = 0;
}

/* Copies up to SIZE bytes of the rest of the current message and what frames it. SIZE is more than
 * the head of a counted frame. */
static size_t input_message(struct input *input, char *buffer, size_t size)
{
    const char *rest = input_word(input) + input->offset;
    size_t length = strlen(rest), head = 0, end = input->framing != SEND_OCTET, n;

    if (input->framing == SEND_OCTET && input->offset == 0)
        head = (size_t)sprintf(buffer, "%zu ", length);
    n = min_size(length, size - head);
    memcpy(buffer + head, rest, n);
    input->offset += n;
    if (n < length || head + n + end > size)
        return head + n;
    if (end)
        buffer[head + n] = input->framing == SEND_NUL ? '\0' : '\n';
    input_next(input);
    return head + n + end;
}

/* Returns the number of bytes read, 0 at the end, or a negative errno. */
static ssize_t input_read(struct input *input, char *buffer, size_t size)
{
    while (input_is_stdin(input)) {
        ssize_t n = read(STDIN_FILENO, buffer, size);

        if (n > 0)
            return n;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n == 0)
            input_next(input);
    }
    return input_word(input) ? (ssize_t)input_message(input, buffer, size) : 0;
}

/* --- Waiting --- */

static double sender_seconds(const struct sender *s)
{
    return (double)(now_usec(CLOCK_MONOTONIC) - s->started) / (double)USEC_PER_SEC;
}

static void sender_show_progress(struct sender *s)
{
    uint64_t now = now_usec(CLOCK_MONOTONIC);
    double megabytes = (double)s->sent / 1e6;

    if (!s->progress || now - s->started < PROGRESS_AFTER || now - s->shown < TICK_USEC)
        return;
    fprintf(stderr, "\r%.1f MB sent, %.1f MB/s \033[K", megabytes, megabytes / sender_seconds(s));
    s->shown = now;
}

static void sender_hide_progress(struct sender *s)
{
    if (s->shown > 0)
        fputs("\r\033[K", stderr);
    s->shown = 0;
}

/* Acknowledged bytes count as progress, see SIOCOUTQ in tcp(7). */
static void sender_note_progress(struct sender *s)
{
    int queued = 0;

    if (ioctl(s->socket, SIOCOUTQ, &queued) == 0 && queued != s->queued)
        s->moved = now_usec(CLOCK_MONOTONIC);
    s->queued = queued;
}

/* Waits until one of FDS is ready. LIMITED applies the timeout without progress. */
static int sender_wait(struct sender *s, struct pollfd *fds, nfds_t count, bool limited)
{
    bool ticking = s->progress || (limited && s->timeout > 0);

    for (;;) {
        int n = poll(fds, count, ticking ? (int)(TICK_USEC / USEC_PER_MSEC) : -1);

        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        sender_show_progress(s);
        sender_note_progress(s);
        if (limited && s->timeout > 0 && now_usec(CLOCK_MONOTONIC) - s->moved >= s->timeout)
            return -ETIMEDOUT;
    }
}

/* --- Sending --- */

/* Fills the empty buffer, which stays empty at the end of the input. Returns 0 or why to stop. */
static int sender_fill(struct sender *s)
{
    ssize_t n;

    if (input_is_stdin(&s->input)) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = s->socket, .events = POLLIN}};
        int r;

        if (s->hint)
            client_fail(0, "reading from the terminal; end with Ctrl-D");
        s->hint = false;
        r = sender_wait(s, fds, ARRAY_SIZE(fds), false);
        if (r < 0)
            return r;
        if (!fds[0].revents)
            return SEND_ANSWERED;
    }
    n = input_read(&s->input, s->buffer, BUFFER_SIZE);
    if (n < 0) {
        errno = (int)-n;
        return SEND_INPUT_ERROR;
    }
    s->begin = 0;
    s->end = (size_t)n;
    s->moved = now_usec(CLOCK_MONOTONIC);
    return 0;
}

/* Sends part of the buffer. Returns 0 or why to stop. */
static int sender_push(struct sender *s)
{
    struct pollfd fd = {.fd = s->socket, .events = POLLIN | POLLOUT};
    ssize_t n;
    int r;

    r = sender_wait(s, &fd, 1, true);
    if (r < 0)
        return r;
    if (fd.revents & POLLIN)
        return SEND_ANSWERED;
    n = send(s->socket, s->buffer + s->begin, s->end - s->begin, MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    s->begin += (size_t)n;
    s->sent += (uint64_t)n;
    s->moved = now_usec(CLOCK_MONOTONIC);
    sender_show_progress(s);
    return 0;
}

/* Sends everything and shuts down the sending side. */
static int sender_send(struct sender *s)
{
    int r;

    for (;;) {
        r = s->begin == s->end ? sender_fill(s) : sender_push(s);
        if (r != 0)
            return r;
        if (s->begin == s->end && !input_word(&s->input))
            break;
    }
    /* May fail if the connection is lost; there may still be an answer to read. */
    (void)shutdown(s->socket, SHUT_WR);
    return SEND_DONE;
}

/* Reads one line from netd. Returns 0 or a negative errno; part of an answer may have been read in
 * both cases. */
static int sender_receive(struct sender *s)
{
    struct pollfd fd = {.fd = s->socket, .events = POLLIN};

    s->moved = now_usec(CLOCK_MONOTONIC);
    while (s->answered < sizeof(s->answer) && !memchr(s->answer, '\n', s->answered)) {
        ssize_t n = recv(s->socket, s->answer + s->answered, sizeof(s->answer) - s->answered, 0);

        if (n == 0)
            return 0;
        if (n > 0) {
            s->answered += (size_t)n;
            s->moved = now_usec(CLOCK_MONOTONIC);
        } else if (errno == EAGAIN) {
            int r = sender_wait(s, &fd, 1, true);

            if (r < 0)
                return r;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* --- The outcome --- */

static int send_fail_receipt(const struct sender *s, const struct receipt *receipt, bool complete)
{
    char sent[COUNT_TEXT_MAX];

    output_count(s->sent, "byte", sent);
    if (receipt->bytes == s->sent && !complete)
        return client_fail(EXIT_FAILED,
                           "the session ended before the input: %s; session %s has the %s sent "
                           "until then",
                           receipt->reason, receipt->session, sent);
    return client_fail(EXIT_FAILED, "the receipt names %" PRIu64 " of %s: session %s ended: %s",
                       receipt->bytes, sent, receipt->session, receipt->reason);
}

static int send_fail_input(const struct sender *s, int error)
{
    char sent[COUNT_TEXT_MAX];

    output_count(s->sent, "byte", sent);
    return client_fail(EXIT_FAILED, "standard input: %s (%s sent)", strerror(error), sent);
}

static int send_fail_no_receipt(const struct sender *s, int error)
{
    char sent[COUNT_TEXT_MAX];

    output_count(s->sent, "byte", sent);
    if (error == -EPIPE)
        error = -ECONNRESET; /* the kernel reports a reset after FIN as EPIPE */
    if (error == -ETIMEDOUT && s->timeout > 0)
        return client_fail(EXIT_FAILED, "no receipt: no progress for %" PRIu64 " s (%s sent)",
                           s->timeout / USEC_PER_SEC, sent);
    return client_fail(EXIT_FAILED, "no receipt: %s (%s sent)",
                       error < 0 ? strerror(-error) : "the connection was closed", sent);
}

static void send_print_counts(const struct sender *s, const struct receipt *receipt)
{
    char records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];

    output_count(receipt->records, "record", records);
    output_count(receipt->bytes, "byte", bytes);
    fprintf(stderr, "netd-client: %s, %s in %.3f s, end: %s\n", records, bytes, sender_seconds(s),
            receipt->reason);
}

/* COMPLETE: everything was sent. ERROR: the error of the connection, or 0. */
static int send_report(const struct sender *s, const struct options *options, bool complete,
                       int error)
{
    struct receipt receipt;

    if (s->answered == 0)
        return send_fail_no_receipt(s, error);
    if (receipt_parse(&receipt, s->answer, s->answered) < 0)
        return client_fail(EXIT_FAILED, "no receipt: the answer is '%.*s'", (int)s->answered,
                           s->answer);
    if (receipt.kind == RECEIPT_REFUSED)
        return client_fail(EXIT_FAILED, "netd refused the connection: %s", receipt.reason);
    if (receipt.bytes != s->sent || !complete)
        return send_fail_receipt(s, &receipt, complete);
    if (!options->quiet)
        puts(receipt.session);
    if (options->verbose)
        send_print_counts(s, &receipt);
    return EXIT_SUCCESS;
}

/* After these errors, an answer may still be in the receive queue. */
static bool send_connection_is_lost(int error)
{
    return error == -ECONNRESET || error == -EPIPE || error == -ENOTCONN;
}

static int send_everything(struct sender *s, const struct options *options)
{
    int stopped = sender_send(s), error = errno, r;

    if (stopped == SEND_INPUT_ERROR) {
        sender_hide_progress(s);
        return send_fail_input(s, error);
    }
    if (stopped < 0 && !send_connection_is_lost(stopped)) {
        sender_hide_progress(s);
        return send_fail_no_receipt(s, stopped);
    }
    r = sender_receive(s);
    sender_hide_progress(s);
    return send_report(s, options, stopped == SEND_DONE, r < 0 || stopped > 0 ? r : stopped);
}

/* A message that contains a newline would become two records. */
static int send_check(enum send_framing framing, char **words, int count)
{
    for (int i = 0; i < count; i++) {
        if (framing == SEND_LINE && strchr(words[i], '\n'))
            return client_fail(EXIT_USAGE,
                               "send: message %d has more than one line; each message is one "
                               "record, use standard input for more",
                               i + 1);
        if (framing == SEND_OCTET && *words[i] == '\0')
            return client_fail(EXIT_USAGE,
                               "send: message %d is empty; a counted frame has at least one byte",
                               i + 1);
    }
    return -1;
}

int send_run(const struct options *options, char **arguments, int count)
{
    static char standard_input[] = "-";
    char *only_input[] = {standard_input};
    CLEANUP(free_pointer) char *buffer = NULL;
    CLEANUP(close_fd) int fd = -1;
    struct sender sender = {
        .timeout = options->timeout,
        .input =
            {
                .words = count > 0 ? arguments : only_input,
                .count = count > 0 ? count : 1,
                .framing = options->framing,
            },
    };
    /* A progress line would overwrite what is being typed. */
    bool typed = input_has_stdin(&sender.input) && isatty(STDIN_FILENO);
    int r;

    sender.progress = !options->quiet && !typed && isatty(STDERR_FILENO);
    sender.hint = !options->quiet && typed;
    r = send_check(options->framing, arguments, count);
    if (r >= 0)
        return r;
    buffer = malloc(BUFFER_SIZE);
    if (!buffer)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    signal(SIGPIPE, SIG_IGN);
    r = connect_to_netd(options, &fd);
    if (r >= 0)
        return r;
    sender.socket = fd;
    sender.buffer = buffer;
    sender.started = sender.moved = now_usec(CLOCK_MONOTONIC);
    return send_everything(&sender, options);
}
