/* SPDX-License-Identifier: MIT */
/*
 * send: sends everything over one connection and waits for the receipt. netd does not write before
 * the session ends, so that data from it before the end of the input mean that netd ended it.
 */
#include "netd-client/client.h"
#include "netd-client/input.h"
#include "netd-client/output.h"
#include "netd-client/receipt.h"
#include "netd-client/send-relp.h"
#include "netd-client/transfer.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_SIZE ((size_t)256 * 1024)

struct sender {
    struct transfer transfer;
    bool hint; /* print a hint before reading from the terminal */
    struct input input;
    char *buffer;
    size_t begin, end;        /* unsent part of the buffer */
    char answer[RECEIPT_MAX]; /* received from netd */
    size_t answered;
    bool ended; /* nothing more can be received */
    int error;  /* why, a negative errno, or 0 for the end of the stream */
};

/* Why sending stopped, besides negative errnos for errors of the connection. */
enum { SEND_DONE = 0, SEND_ANSWERED, SEND_INPUT_ERROR };

/* --- Sending --- */

/* Reads of netd's answer what is there. Returns true if there was any, or the end of it. */
static bool sender_read(struct sender *s)
{
    ssize_t n = connection_read(&s->transfer.connection, s->answer + s->answered,
                                sizeof(s->answer) - s->answered);

    if (n == -EAGAIN)
        return false;
    if (n > 0) {
        s->answered += (size_t)n;
        return true;
    }
    s->ended = true;
    s->error = (int)n;
    return true;
}

/* Fills the empty buffer, which stays empty at the end of the input. Returns 0 or why to stop. */
static int sender_fill(struct sender *s)
{
    struct connection *c = &s->transfer.connection;
    ssize_t n;

    if (input_is_stdin(&s->input)) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                               {.fd = c->fd, .events = connection_events(c, false)}};
        int r;

        if (s->hint)
            client_fail(0, "reading from the terminal; end with Ctrl-D");
        s->hint = false;
        r = transfer_wait(&s->transfer, fds, ARRAY_SIZE(fds), false);
        if (r < 0)
            return r;
        if (!fds[0].revents)
            return sender_read(s) ? SEND_ANSWERED : 0;
    }
    n = input_read(&s->input, s->buffer, BUFFER_SIZE);
    if (n < 0) {
        errno = (int)-n;
        return SEND_INPUT_ERROR;
    }
    s->begin = 0;
    s->end = (size_t)n;
    transfer_note_progress(&s->transfer);
    return 0;
}

/* Sends part of the buffer. Returns 0 or why to stop. */
static int sender_push(struct sender *s)
{
    struct connection *c = &s->transfer.connection;
    struct pollfd fd = {.fd = c->fd, .events = connection_events(c, true)};
    ssize_t n;
    int r;

    r = transfer_wait(&s->transfer, &fd, 1, true);
    if (r < 0)
        return r;
    if ((fd.revents & POLLIN) && sender_read(s))
        return SEND_ANSWERED;
    n = transfer_write(&s->transfer, s->buffer + s->begin, s->end - s->begin);
    if (n < 0)
        return n == -EAGAIN ? 0 : (int)n;
    s->begin += (size_t)n;
    return 0;
}

/* Tells netd that everything was sent. May fail if the connection is lost; there may still be an
 * answer to read. */
static void sender_finish(struct sender *s)
{
    struct connection *c = &s->transfer.connection;
    struct pollfd fd = {.fd = c->fd, .events = POLLOUT};

    while (connection_finish(c) == -EAGAIN && transfer_wait(&s->transfer, &fd, 1, true) == 0)
        ;
}

/* Sends everything and ends the sending direction. */
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
    sender_finish(s);
    return SEND_DONE;
}

/* Reads one line from netd. Returns 0 or a negative errno; part of an answer may have been read in
 * both cases. */
static int sender_receive(struct sender *s)
{
    struct connection *c = &s->transfer.connection;

    transfer_note_progress(&s->transfer);
    while (!s->ended && s->answered < sizeof(s->answer) && !memchr(s->answer, '\n', s->answered)) {
        struct pollfd fd = {.fd = c->fd, .events = connection_events(c, false)};
        int r;

        if (sender_read(s)) {
            transfer_note_progress(&s->transfer);
            continue;
        }
        r = transfer_wait(&s->transfer, &fd, 1, true);
        if (r < 0)
            return r;
    }
    return s->error;
}

/* --- The outcome --- */

static int send_fail_receipt(const struct sender *s, const struct receipt *receipt, bool complete)
{
    char sent[COUNT_TEXT_MAX];

    output_count(s->transfer.sent, "byte", sent);
    if (receipt->bytes == s->transfer.sent && !complete)
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

    output_count(s->transfer.sent, "byte", sent);
    return client_fail(EXIT_FAILED, "standard input: %s (%s sent)", strerror(error), sent);
}

static int send_fail_no_receipt(const struct sender *s, int error)
{
    char sent[COUNT_TEXT_MAX];

    output_count(s->transfer.sent, "byte", sent);
    if (error == -EPIPE)
        error = -ECONNRESET; /* the kernel reports a reset after FIN as EPIPE */
    if (error == -ETIMEDOUT && s->transfer.timeout > 0)
        return client_fail(EXIT_FAILED, "no receipt: no progress for %" PRIu64 " s (%s sent)",
                           s->transfer.timeout / USEC_PER_SEC, sent);
    return client_fail(EXIT_FAILED, "no receipt: %s (%s sent)",
                       error < 0 ? connection_error(&s->transfer.connection, error)
                                 : "the connection was closed",
                       sent);
}

static void send_print_counts(const struct sender *s, const struct receipt *receipt)
{
    char records[COUNT_TEXT_MAX], bytes[COUNT_TEXT_MAX];

    output_count(receipt->records, "record", records);
    output_count(receipt->bytes, "byte", bytes);
    fprintf(stderr, "netd-client: %s, %s in %.3f s, end: %s\n", records, bytes,
            transfer_seconds(&s->transfer), receipt->reason);
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
    if (receipt.bytes != s->transfer.sent || !complete)
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
        transfer_hide_progress(&s->transfer);
        return send_fail_input(s, error);
    }
    if (stopped < 0 && !send_connection_is_lost(stopped)) {
        transfer_hide_progress(&s->transfer);
        return send_fail_no_receipt(s, stopped);
    }
    r = sender_receive(s);
    transfer_hide_progress(&s->transfer);
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
    CLEANUP(free_pointer) char *buffer = NULL;
    struct sender sender = {.transfer.timeout = options->timeout};
    bool typed;
    int r;

    if (options->relp)
        return send_relp_run(options, arguments, count);
    input_init(&sender.input, options->framing, arguments, count);
    /* A progress line would overwrite what is being typed. */
    typed = input_has_stdin(&sender.input) && isatty(STDIN_FILENO);
    sender.transfer.progress = !options->quiet && !typed && isatty(STDERR_FILENO);
    sender.hint = !options->quiet && typed;
    r = send_check(options->framing, arguments, count);
    if (r >= 0)
        return r;
    buffer = malloc(BUFFER_SIZE);
    if (!buffer)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    signal(SIGPIPE, SIG_IGN);
    r = connection_open(&sender.transfer.connection, options, false);
    if (r >= 0)
        return r;
    sender.buffer = buffer;
    transfer_start(&sender.transfer);
    r = send_everything(&sender, options);
    connection_close(&sender.transfer.connection);
    return r;
}
