/* SPDX-License-Identifier: MIT */
/*
 * A RELP client of 127.0.0.1:PORT, on one connection, with the syslog messages of load -y.
 *
 *   relp [-n MESSAGES] [-s SIZE] [-W WINDOW] [-R RATE] [-w] PORT
 *
 * SIZE is that of the same message in a counted frame. At most WINDOW messages (128, as omrelp) are
 * sent and not acknowledged; -R: at most RATE messages a second.
 *
 * Prints "connected", "sent SECONDS" when all are acknowledged, "waiting", and "closed 0 1 P50
 * P99": how many microseconds a message took from send(2) until it was acknowledged. -w: waits for
 * a line on standard input before the first message is sent, and for another before it ends.
 */
#include "lines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

/* The most that is sent at a time. */
#define TURN_MAX 65536

/* In front of a message, its LF included: at most ten digits each. */
#define FRAME_MAX 32

static const char hello[] = "1 open 50 relp_version=0\nrelp_software=bench\ncommands=syslog\n";

struct relp {
    size_t count, size, window, rate; /* rate 0: no limit */
    bool wait;
    int fd;
    char *text;   /* all frames */
    size_t *ends; /* of each frame in it */

    size_t sent_bytes, sent, acknowledged; /* sent: whole frames */
    double *times;                         /* when each was sent, then how long it took */
    double start;

    char answer[65536];
    size_t answer_length;
};

static void wait_for_word(const struct relp *r, const char *said)
{
    char word[16];

    puts(said);
    fflush(stdout);
    if (r->wait && !fgets(word, sizeof(word), stdin))
        exit(EXIT_FAILURE);
}

static void make_frames_of_relp(struct relp *r)
{
    char *messages = make_syslog(r->count, r->size), *at;
    const size_t prefix = strlen("156 "), length = r->size - prefix;

    at = r->text = malloc(r->count * (r->size + FRAME_MAX) + 1);
    r->ends = calloc(r->count + 1, sizeof(*r->ends));
    r->times = calloc(r->count + 1, sizeof(*r->times));
    if (!at || !r->ends || !r->times)
        die("malloc");
    for (size_t i = 0; i < r->count; i++) {
        at += sprintf(at, "%zu syslog %zu ", i + 2, length);
        memcpy(at, messages + i * r->size + prefix, length);
        at += length;
        *at++ = '\n';
        r->ends[i] = (size_t)(at - r->text);
    }
    free(messages);
}

static void connect_to(struct relp *r, unsigned short port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* A server that has just been started may not listen yet. */
    for (unsigned tries = 0;; tries++) {
        r->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (r->fd < 0)
            die("socket");
        if (connect(r->fd, (struct sockaddr *)&to, sizeof(to)) == 0)
            break;
        if (errno != ECONNREFUSED || tries == 1000)
            die("connect");
        close(r->fd);
        usleep(10000);
    }
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (fcntl(r->fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl");
}

/* How many frames may have been sent by now. */
static size_t limit(const struct relp *r)
{
    size_t most = r->acknowledged + r->window;
    double due = (seconds_now() - r->start) * (double)r->rate + 1;

    if (r->rate > 0 && due < (double)most)
        most = (size_t)due;
    return most < r->count ? most : r->count;
}

static void send_frames(struct relp *r)
{
    size_t most = limit(r), end = most > 0 ? r->ends[most - 1] : 0;
    ssize_t n;
    double now;

    while (r->sent_bytes < end) {
        size_t size = end - r->sent_bytes;

        now = seconds_now();
        n = send(r->fd, r->text + r->sent_bytes, size < TURN_MAX ? size : TURN_MAX, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0)
            die("send");
        r->sent_bytes += (size_t)n;
        while (r->sent < r->count && r->ends[r->sent] <= r->sent_bytes)
            r->times[r->sent++] = now;
    }
}

/* One answer at the front of what has arrived. Returns its length, or 0 if it is not whole. */
static size_t take_answer(struct relp *r, const char *at, const char *end, double now)
{
    unsigned long number = 0, length = 0;
    char command[16];
    int head = 0;

    if (sscanf(at, "%lu %15s %lu%n", &number, command, &length, &head) < 3)
        return 0;
    at += head;
    length += length > 0; /* the blank */
    if ((size_t)(end - at) < length + 1)
        return 0;
    if (number > r->sent + 1 || at[length] != '\n' || strcmp(command, "rsp") != 0 ||
        memcmp(at, " 200", 4) != 0) {
        fprintf(stderr, "relp: unexpected answer to %lu\n", number);
        exit(EXIT_FAILURE);
    }
    if (number > 1) {
        r->times[number - 2] = now - r->times[number - 2];
        r->acknowledged++;
    }
    return (size_t)head + length + 1;
}

static void take_answers(struct relp *r)
{
    ssize_t n =
        recv(r->fd, r->answer + r->answer_length, sizeof(r->answer) - 1 - r->answer_length, 0);
    double now = seconds_now();
    size_t used = 0, one;

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        die("the server ended the connection");
    r->answer_length += n > 0 ? (size_t)n : 0;
    r->answer[r->answer_length] = '\0';
    while (memchr(r->answer + used, '\n', r->answer_length - used) &&
           (one = take_answer(r, r->answer + used, r->answer + r->answer_length, now)) > 0)
        used += one;
    memmove(r->answer, r->answer + used, r->answer_length - used);
    r->answer_length -= used;
}

static void run(struct relp *r)
{
    struct pollfd fd = {.fd = r->fd};

    r->start = seconds_now();
    while (r->acknowledged < r->count) {
        send_frames(r);
        fd.events = POLLIN;
        if (r->sent < limit(r))
            fd.events |= POLLOUT;
        if (poll(&fd, 1, r->rate > 0 ? 1 : -1) > 0 && (fd.revents & ~POLLOUT))
            take_answers(r);
    }
    printf("sent %.6f\n", seconds_now() - r->start);
}

static void open_session(struct relp *r)
{
    struct pollfd fd = {.fd = r->fd, .events = POLLIN};

    if (send(r->fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) != sizeof(hello) - 1 ||
        poll(&fd, 1, 10000) != 1)
        die("open");
    take_answers(r);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static double percentile(struct relp *r, double p)
{
    return r->count > 0 ? r->times[(size_t)((double)(r->count - 1) * p)] * 1e6 : 0;
}

int main(int argc, char **argv)
{
    struct relp r = {.count = 100000, .size = 160, .window = 128};
    int option;

    while ((option = getopt(argc, argv, "n:s:W:R:w")) >= 0) {
        switch (option) {
        case 'n':
            r.count = number(optarg, 1);
            break;
        case 's':
            r.size = number(optarg, 104);
            break;
        case 'W':
            r.window = number(optarg, 1);
            break;
        case 'R':
            r.rate = number(optarg, 1);
            break;
        case 'w':
            r.wait = true;
            break;
        default:
            return EXIT_FAILURE;
        }
    }
    if (optind != argc - 1 || r.size > 999)
        return EXIT_FAILURE;
    make_frames_of_relp(&r);
    connect_to(&r, (unsigned short)number(argv[optind], 1));
    open_session(&r);
    wait_for_word(&r, "connected");
    run(&r);
    wait_for_word(&r, "waiting");
    qsort(r.times, r.count, sizeof(*r.times), compare);
    printf("closed 0 1 %.0f %.0f\n", percentile(&r, 0.5), percentile(&r, 0.99));
    return 0;
}
