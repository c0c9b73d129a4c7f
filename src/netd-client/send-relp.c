/* SPDX-License-Identifier: MIT */
/*
 * send --relp: each record is sent in a RELP transaction and kept in the window until the server
 * has acknowledged it. Reads the answers while it sends, so that neither side waits for the other
 * with both directions full. On another connection, everything in the window is sent again.
 */
#include "netd-client/send-relp.h"

#include "netd-client/input.h"
#include "netd-client/output.h"
#include "netd-client/receipt.h"
#include "netd-client/relp.h"
#include "netd-client/transfer.h"
#include "netd-client/window.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define OUT_SIZE    ((size_t)256 * 1024)
#define IN_SIZE     ((size_t)4 * RELP_ANSWER_MAX)
#define READ_SIZE   ((size_t)64 * 1024)
#define REASON_MAX  256
#define OPEN_OFFERS "relp_version=0\nrelp_software=netd-client," NETD_VERSION "\ncommands=syslog\n"

/* netd's offer in its answer to "open". */
#define OFFER_SESSION "netd_session"

/* Microseconds to wait for the answers to "open", unless there is a timeout, and to "close", when
 * everything is acknowledged. netd answers "open" also while the journal is stopped. */
#define OPEN_TIMEOUT  (30 * USEC_PER_SEC)
#define CLOSE_TIMEOUT (5 * USEC_PER_SEC)

/* Microseconds between attempts to connect again. */
#define DELAY_FIRST (100 * USEC_PER_MSEC)
#define DELAY_MAX   (5 * USEC_PER_SEC)

enum relp_state { RELP_OPENING, RELP_OPEN, RELP_CLOSING, RELP_CLOSED };

/* What stops a step, besides 0: with RELP_LOST another connection may help. */
enum { RELP_LOST = 1, RELP_FAILED };

struct relp_sender {
    struct transfer transfer;
    const struct options *options;
    bool hint; /* print a hint before reading from the terminal */

    struct input input;
    bool input_ended; /* standard input, while it is the current word */
    int input_error;  /* errno of reading it, or 0 */
    struct window window;
    int output_error; /* errno of printing a session, or 0 */

    enum relp_state state;
    bool opened;   /* there was a session */
    uint32_t txnr; /* of the last command */
    uint32_t open_txnr, close_txnr;
    char *out; /* frames to send */
    size_t out_begin, out_end;
    char in[IN_SIZE]; /* answers */
    size_t in_length;

    uint64_t advanced; /* when a record was acknowledged, or the first one read; CLOCK_MONOTONIC */
    uint64_t delay;    /* before the next attempt to connect, microseconds */
    unsigned again;    /* records in the window that were sent on earlier connections only */
    uint64_t acknowledged, refused, resent;
    char reason[REASON_MAX]; /* why it stopped */
};

/* Notes why the session stops. Returns RESULT. */
static int PRINTF(3, 4) relp_stop(struct relp_sender *s, int result, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(s->reason, sizeof(s->reason), format, arguments);
    va_end(arguments);
    return result;
}

static int relp_stop_lost(struct relp_sender *s, int error)
{
    if (error == 0)
        return relp_stop(s, RELP_LOST, "the server closed the connection");
    if (error == -EPIPE)
        error = -ECONNRESET; /* the kernel reports a reset as EPIPE the second time */
    return relp_stop(s, RELP_LOST, "%s", connection_error(&s->transfer.connection, error));
}

static int PRINTF(3, 4) relp_say(struct relp_sender *s, int status, const char *format, ...)
{
    char line[2 * REASON_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    transfer_hide_progress(&s->transfer);
    return client_fail(status, "%s", line);
}

/* --- Input --- */

/* Moves messages to the window, as far as there is room. */
static void relp_take_messages(struct relp_sender *s)
{
    while (input_word(&s->input)) {
        const char *rest = input_word(&s->input) + s->input.offset;
        size_t length = min_size(strlen(rest), RELP_DATA_MAX);

        if (input_is_stdin(&s->input)) {
            if (!s->input_ended || !window_end_line(&s->window))
                return;
            s->input_ended = false;
            input_next(&s->input);
            continue;
        }
        if (!window_put(&s->window, rest, length))
            return;
        s->input.offset += length;
        if (rest[length] == '\0')
            input_next(&s->input);
        else
            s->window.pieces++;
    }
}

/* True if standard input can be read to the window. */
static bool relp_wants_input(struct relp_sender *s)
{
    char *room;

    return s->state == RELP_OPEN && input_is_stdin(&s->input) && !s->input_ended &&
           window_room(&s->window, &room) > 0;
}

/* True if the server owes an answer, or the connection does not take what is to be sent. */
static bool relp_is_waiting(const struct relp_sender *s)
{
    return s->state != RELP_OPEN || s->out_begin < s->out_end || s->window.sent > 0;
}

/* Reads from standard input, which is ready. */
static void relp_read_input(struct relp_sender *s)
{
    char *room;
    size_t size = window_room(&s->window, &room);
    ssize_t n = read(STDIN_FILENO, room, min_size(size, READ_SIZE));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (!relp_is_waiting(s)) {
        transfer_note_progress(&s->transfer); /* the time without progress begins now */
        s->advanced = s->transfer.moved;
    }
    if (n > 0) {
        window_add(&s->window, (size_t)n);
        return;
    }
    s->input_ended = true;
    if (n < 0) {
        s->input_error = errno;
        s->input.count = s->input.at + 1; /* nothing after it is sent */
    }
}

/* --- Sending --- */

static uint32_t relp_command(struct relp_sender *s, const char *command, const char *data,
                             size_t length)
{
    s->txnr = relp_next_txnr(s->txnr);
    s->out_end += relp_write(s->out + s->out_end, s->txnr, command, data, length);
    return s->txnr;
}

/* Moves records to the empty space behind the frames to send. After the last one: "close". */
static void relp_frame(struct relp_sender *s)
{
    const struct window_record *record;
    const char *data;

    if (s->out_begin == s->out_end)
        s->out_begin = s->out_end = 0;
    if (s->state != RELP_OPEN)
        return;
    while ((record = window_next(&s->window, &data)) &&
           s->out_end + record->length + RELP_FRAME_MAX <= OUT_SIZE)
        window_sent(&s->window, relp_command(s, "syslog", data, record->length));
    if (input_word(&s->input) || !window_is_empty(&s->window))
        return;
    s->close_txnr = relp_command(s, "close", NULL, 0);
    s->state = RELP_CLOSING;
    transfer_note_progress(&s->transfer);
}

static int relp_receive(struct relp_sender *s);

/* Sends what the connection takes. Returns 0 or why to stop. */
static int relp_send(struct relp_sender *s)
{
    while (s->out_begin < s->out_end) {
        ssize_t n = transfer_write(&s->transfer, s->out + s->out_begin, s->out_end - s->out_begin);

        if (n == -EAGAIN)
            return 0;
        if (n < 0) {
            /* Answers that came before need not be sent again. */
            int r = relp_receive(s);

            return r ? r : relp_stop_lost(s, (int)n);
        }
        s->out_begin += (size_t)n;
    }
    return 0;
}

/* --- Answers --- */

static int relp_handle_open(struct relp_sender *s, const struct relp_answer *answer)
{
    char again[COUNT_TEXT_MAX];
    const char *session;
    size_t length;

    if (answer->txnr != s->open_txnr)
        return relp_stop(s, RELP_FAILED, "protocol error: no answer to \"open\"");
    if (answer->status != 200)
        return relp_stop(s, RELP_FAILED, "the server refused the session: %u %.*s", answer->status,
                         (int)min_size(answer->text_length, REASON_MAX / 2), answer->text);
    session = relp_offer(answer, OFFER_SESSION, &length);
    if (session && length == SESSION_ID_HEX && !s->options->quiet) {
        printf("%.*s\n", (int)length, session);
        if (fflush(stdout) != 0)
            s->output_error = errno; /* reported when the records are acknowledged */
        clearerr(stdout);
    }
    output_count(s->again, "unacknowledged record", again);
    if (s->opened && !s->options->quiet)
        relp_say(s, 0, "connected again; sending %s again", again);
    s->resent += s->again;
    s->again = 0;
    s->opened = true;
    s->state = RELP_OPEN;
    return 0;
}

static int relp_handle_record(struct relp_sender *s, const struct relp_answer *answer)
{
    if (answer->status == 0)
        return relp_stop(s, RELP_FAILED, "protocol error: an answer without a status");
    if (window_acknowledge(&s->window, answer->txnr) < 0)
        return relp_stop(s, RELP_FAILED,
                         "protocol error: an answer to %" PRIu32 ", which does not wait for one",
                         answer->txnr);
    s->delay = 0;
    s->advanced = s->transfer.moved;
    if (answer->status == 200)
        s->acknowledged++;
    else if (s->refused++ == 0)
        relp_say(s, EXIT_FAILED, "the server refused a record: %u %.*s", answer->status,
                 (int)min_size(answer->text_length, REASON_MAX / 2), answer->text);
    return 0;
}

static int relp_handle(struct relp_sender *s, const struct relp_answer *answer)
{
    transfer_note_progress(&s->transfer);
    if (answer->kind == RELP_SERVERCLOSE)
        return relp_stop(s, RELP_LOST, "the server closed the session");
    if (s->state == RELP_OPENING)
        return relp_handle_open(s, answer);
    if (s->state == RELP_CLOSING && answer->txnr == s->close_txnr) {
        s->state = RELP_CLOSED;
        return 0;
    }
    return relp_handle_record(s, answer);
}

/* What is no answer may be the line that netd sends to a client that it refuses. */
static int relp_stop_invalid(struct relp_sender *s, const char *text, size_t length)
{
    struct receipt receipt;

    if (receipt_parse(&receipt, text, length) == 0 && receipt.kind == RECEIPT_REFUSED)
        return relp_stop(s, RELP_LOST, "netd refused the connection: %s", receipt.reason);
    return relp_stop(s, RELP_FAILED, "protocol error: the answer is '%.*s'",
                     (int)min_size(length, 64), text);
}

/* Handles all complete answers. Returns 0 or why to stop. */
static int relp_parse_all(struct relp_sender *s)
{
    struct relp_answer answer;
    size_t at = 0;
    int r = 0;

    while (r == 0 && s->state != RELP_CLOSED) {
        ssize_t n = relp_parse(&answer, s->in + at, s->in_length - at);

        if (n < 0)
            return relp_stop_invalid(s, s->in + at, s->in_length - at);
        if (n == 0)
            break;
        at += (size_t)n;
        r = relp_handle(s, &answer);
    }
    s->in_length -= at;
    memmove(s->in, s->in + at, s->in_length);
    return r;
}

/* Reads and handles all answers that are there. Returns 0 or why to stop. */
static int relp_receive(struct relp_sender *s)
{
    int r = 0;

    while (r == 0 && s->state != RELP_CLOSED) {
        ssize_t n =
            connection_read(&s->transfer.connection, s->in + s->in_length, IN_SIZE - s->in_length);

        if (n == -EAGAIN)
            return 0;
        if (n <= 0)
            return relp_stop_lost(s, (int)n);
        s->in_length += (size_t)n;
        r = relp_parse_all(s);
    }
    return r;
}

/* --- One connection --- */

static int relp_stop_stalled(struct relp_sender *s)
{
    uint64_t seconds = s->transfer.timeout / USEC_PER_SEC;
    int result = s->options->timeout > 0 ? RELP_FAILED : RELP_LOST;

    if (s->state == RELP_OPENING)
        return relp_stop(s, result,
                         "no answer to \"open\" for %" PRIu64 " s; is the listener for RELP?",
                         seconds);
    return relp_stop(s, result, "no progress for %" PRIu64 " s", seconds);
}

static uint64_t relp_timeout(const struct relp_sender *s)
{
    uint64_t timeout = s->options->timeout;

    if (s->state == RELP_OPENING)
        return timeout > 0 ? timeout : OPEN_TIMEOUT;
    if (s->state == RELP_CLOSING)
        return timeout > 0 ? min_u64(timeout, CLOSE_TIMEOUT) : CLOSE_TIMEOUT;
    return timeout;
}

/* Waits, and does what can be done then. Returns 0 or why to stop. */
static int relp_step(struct relp_sender *s)
{
    struct connection *c = &s->transfer.connection;
    struct pollfd fds[] = {
        {.fd = c->fd, .events = connection_events(c, s->out_begin < s->out_end)},
        {.fd = relp_wants_input(s) ? STDIN_FILENO : -1, .events = POLLIN},
    };
    bool waiting = relp_is_waiting(s);
    int r;

    if (s->hint && fds[1].fd >= 0) {
        relp_say(s, 0, "reading from the terminal; end with Ctrl-D");
        s->hint = false;
    }
    s->transfer.timeout = relp_timeout(s);
    r = transfer_wait(&s->transfer, fds, ARRAY_SIZE(fds), waiting);
    if (r == -ETIMEDOUT)
        return relp_stop_stalled(s);
    if (r < 0)
        return relp_stop(s, RELP_FAILED, "poll: %s", strerror(-r));
    if (fds[0].revents)
        r = relp_receive(s);
    if (r == 0 && s->state != RELP_CLOSED)
        r = relp_send(s);
    if (r == 0 && fds[1].revents && relp_wants_input(s))
        relp_read_input(s);
    /* Input that keeps coming does not let transfer_wait() time out. */
    if (r == 0 && waiting && relp_is_waiting(s) && transfer_is_stalled(&s->transfer))
        r = relp_stop_stalled(s);
    return r;
}

/* Speaks RELP over a connection that was just made, until everything is acknowledged. Returns 0 or
 * why it stopped. */
static int relp_converse(struct relp_sender *s)
{
    int r = 0;

    /* Fails for a unix socket. With Nagle's algorithm, a record would wait for the server's TCP to
     * acknowledge the one before, see tcp(7). */
    (void)setsockopt(s->transfer.connection.fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    s->state = RELP_OPENING;
    s->in_length = s->out_begin = s->out_end = 0;
    s->txnr = 0;
    s->open_txnr = relp_command(s, "open", OPEN_OFFERS, strlen(OPEN_OFFERS));
    transfer_note_progress(&s->transfer);
    while (r == 0 && s->state != RELP_CLOSED) {
        relp_take_messages(s);
        relp_frame(s);
        r = relp_step(s);
    }
    /* Then only "close" was not answered. */
    return s->state == RELP_CLOSING ? 0 : r;
}

/* --- All connections --- */

/* True if there was no progress for too long; nothing to send counts as progress until the
 * connection was LOST. */
static bool relp_gives_up(struct relp_sender *s, uint64_t lost)
{
    uint64_t timeout = s->options->timeout, since = s->window.count > 0 ? s->advanced : lost;

    if (timeout == 0 || s->delay == 0 || now_usec(CLOCK_MONOTONIC) - since < timeout)
        return false;
    relp_stop(s, RELP_FAILED, "no progress for %" PRIu64 " s", timeout / USEC_PER_SEC);
    return true;
}

/* Connects again, for the first time at once. Returns 0 or why to stop. */
static int relp_connect_again(struct relp_sender *s)
{
    uint64_t lost = now_usec(CLOCK_MONOTONIC);
    bool quiet = s->options->quiet;
    int r;

    if (!quiet)
        relp_say(s, 0, "connection lost: %s; connecting again", s->reason);
    s->again += window_restart(&s->window);
    do {
        connection_close(&s->transfer.connection);
        if (relp_gives_up(s, lost))
            return RELP_FAILED;
        usleep((useconds_t)s->delay);
        s->delay = s->delay == 0 ? DELAY_FIRST : min_u64(2 * s->delay, DELAY_MAX);
        r = connection_open(&s->transfer.connection, s->options, quiet);
        quiet = true; /* the first error is enough */
    } while (r >= 0);
    return 0;
}

static int relp_report(struct relp_sender *s, int result)
{
    uint64_t records = s->acknowledged + s->refused + s->window.count;
    char count[COUNT_TEXT_MAX];

    transfer_hide_progress(&s->transfer);
    output_count(records, "record", count);
    if (s->window.pieces > 0 && !s->options->quiet)
        client_fail(0, "lines longer than %d bytes were sent in pieces", RELP_DATA_MAX);
    if (result != 0 && !s->opened)
        return client_fail(EXIT_FAILED, "no RELP session: %s", s->reason);
    if (result != 0)
        return client_fail(EXIT_FAILED, "%s (%" PRIu64 " of %s acknowledged)", s->reason,
                           s->acknowledged, count);
    if (s->input_error)
        return client_fail(EXIT_FAILED, "standard input: %s (%s sent)", strerror(s->input_error),
                           count);
    if (s->output_error)
        return client_fail(EXIT_FAILED, "standard output: %s", strerror(s->output_error));
    if (s->refused > 1)
        return client_fail(EXIT_FAILED, "the server refused %" PRIu64 " of %s", s->refused, count);
    if (s->options->verbose)
        client_fail(0, "%s acknowledged in %.3f s, %" PRIu64 " sent again", count,
                    transfer_seconds(&s->transfer), s->resent);
    return s->refused > 0 ? EXIT_FAILED : EXIT_SUCCESS;
}

static int relp_run(struct relp_sender *s)
{
    int r;

    do {
        r = relp_converse(s);
        if (r != RELP_LOST || !s->opened || !s->options->reconnect)
            break;
        r = relp_connect_again(s);
    } while (r == 0);
    connection_close(&s->transfer.connection);
    return relp_report(s, r);
}

int send_relp_run(const struct options *options, char **arguments, int count)
{
    CLEANUP(free_pointer) char *out = malloc(OUT_SIZE);
    struct relp_sender s = {.options = options, .out = out};
    bool typed;
    int r = -1;

    input_init(&s.input, options->framing, arguments, count);
    typed = input_has_stdin(&s.input) && isatty(STDIN_FILENO);
    s.transfer.progress = !options->quiet && !typed && isatty(STDERR_FILENO);
    s.hint = !options->quiet && typed;
    if (!out || window_init(&s.window) < 0)
        return client_fail(EXIT_FAILED, "%s", strerror(ENOMEM));
    signal(SIGPIPE, SIG_IGN);
    r = connection_open(&s.transfer.connection, options, false);
    if (r < 0) {
        transfer_start(&s.transfer);
        s.advanced = s.transfer.started;
        r = relp_run(&s);
    }
    window_deinit(&s.window);
    return r;
}
