/* SPDX-License-Identifier: MIT */
/*
 * Clients of 127.0.0.1:PORT. All lines are made before the first connection, so that what is
 * measured is the server.
 *
 *   load [-c CONNECTIONS] [-n LINES] [-s SIZE] [-r] [-R RATE] [-w] PORT
 *       The lines, shared out evenly. -r: no line ends. -R: at most RATE lines a second.
 *   load -1 [-c CONNECTIONS] [-n LINES] [-s SIZE] PORT
 *       Each line has a connection of its own, CONNECTIONS of them at a time.
 *
 * -l COUNT: the connections go to COUNT ports in turn, PORT the first. -u PATH: to a unix socket
 * instead. -o, -y: counted frames instead of lines, -y: of syslog messages. -m: each line in a
 * write of its own. -t: over TLS, where a write is a TLS record, or several of 16 KiB; the server's
 * certificate is not verified. -C FILE: the same with the certificate and key in FILE.
 *
 * Prints "connected", "sent SECONDS", and, when the server has closed every connection, "closed
 * SECONDS RECEIPTS". -w: waits for a line on standard input before the first line is sent, and for
 * another before the connections are ended.
 */
#include "lines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Source addresses, in turn: from one alone the kernel searches for a free port the longer the more
 * of them were in use a minute ago, and this is not what is measured. */
#define SOURCES 250

/* The most that one connection sends at a time: what keeps a hundred of them moving together. */
#define TURN_MAX 65536

struct client {
    int fd;
    SSL *ssl;         /* NULL: without TLS */
    size_t next, end; /* bytes of the lines */
    bool answered;
};

struct load {
    size_t connections, lines, size;
    unsigned long rate;
    size_t ports;
    unsigned short port;
    const char *path; /* of a unix socket, or NULL */
    char *(*make)(size_t count, size_t size);
    char end;
    bool wait, single;
    size_t write_max; /* bytes */
    SSL_CTX *tls;     /* NULL: without TLS */
    char *text;
    struct client *clients;
    int epoll;
};

static void wait_for_word(const struct load *l, const char *said)
{
    char word[16];

    puts(said);
    fflush(stdout);
    if (l->wait && !fgets(word, sizeof(word), stdin))
        exit(EXIT_FAILURE);
}

static void connect_patiently(int fd, const void *to, socklen_t length)
{
    /* A server that has just been started may not listen yet. EAGAIN: a unix socket's queue is
     * full.
     */
    for (unsigned tries = 0; connect(fd, to, length) < 0; tries++) {
        if ((errno != EINTR && errno != EAGAIN && errno != ENOENT && errno != ECONNREFUSED) ||
            tries == 1000)
            die("connect");
        usleep(10000);
    }
}

static void unblock(int fd)
{
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        die("fcntl");
}

static int load_connect_unix(const struct load *l)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    if (fd < 0)
        die("socket");
    strncpy(to.sun_path, l->path, sizeof(to.sun_path) - 1);
    connect_patiently(fd, &to, sizeof(to));
    return fd;
}

/* Connection number I. */
static int load_connect(const struct load *l, size_t i)
{
    in_port_t port = htons((uint16_t)(l->port + i % l->ports));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = port}, from = to;
    int fd, on = 1;

    if (l->path)
        return load_connect_unix(l);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)(i % SOURCES));
    from.sin_port = 0;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
        die("bind");
    connect_patiently(fd, &to, sizeof(to));
    return fd;
}

static void load_watch(const struct load *l, size_t i, uint32_t events, int operation)
{
    struct epoll_event e = {.events = events, .data.u64 = i};

    if (epoll_ctl(l->epoll, operation, l->clients[i].fd, &e) < 0)
        die("epoll_ctl");
}

/* --- TLS --- */

static SSL_CTX *tls_init(const char *certificate)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());

    if (!tls)
        die("SSL_CTX_new");
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    if (certificate && (SSL_CTX_use_certificate_file(tls, certificate, SSL_FILETYPE_PEM) != 1 ||
                        SSL_CTX_use_PrivateKey_file(tls, certificate, SSL_FILETYPE_PEM) != 1))
        die(certificate);
    return tls;
}

static void client_start_tls(const struct load *l, struct client *c)
{
    if (!l->tls)
        return;
    c->ssl = SSL_new(l->tls);
    if (!c->ssl || SSL_set_fd(c->ssl, c->fd) != 1)
        die("SSL_new");
    SSL_set_connect_state(c->ssl);
}

/* R, which a call on C returned, as a system call would return it. */
static ssize_t tls_result(const struct client *c, int r)
{
    int error = SSL_get_error(c->ssl, r);

    if (error == SSL_ERROR_NONE)
        return r;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

/* Completes the handshake of a connection that still blocks. */
static void client_shake_hands(struct client *c)
{
    if (c->ssl && SSL_do_handshake(c->ssl) != 1)
        die("handshake");
}

/* --- A connection --- */

static ssize_t client_send(struct client *c, const char *data, size_t size)
{
    return c->ssl ? tls_result(c, SSL_write(c->ssl, data, (int)size))
                  : send(c->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t client_receive(struct client *c, char *data, size_t size)
{
    return c->ssl ? tls_result(c, SSL_read(c->ssl, data, (int)size)) : read(c->fd, data, size);
}

static void client_finish(struct client *c)
{
    if (c->ssl)
        SSL_shutdown(c->ssl);
    else
        shutdown(c->fd, SHUT_WR);
}

static void client_close(struct client *c)
{
    SSL_free(c->ssl);
    c->ssl = NULL;
    close(c->fd);
}

/* Sends one turn, at most up to LIMIT, or what the connection takes. */
static void client_write(const struct load *l, struct client *c, size_t limit)
{
    size_t turn = c->next + TURN_MAX, end = limit < c->end ? limit : c->end;
    ssize_t n = 1;

    end = turn < end ? turn : end;
    while (n > 0 && c->next < end) {
        size_t size = end - c->next;

        n = client_send(c, l->text + c->next, size < l->write_max ? size : l->write_max);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            die("send");
        c->next += n > 0 ? (size_t)n : 0;
    }
}

/* Reads what the server says. Returns false when the connection has ended. */
static bool client_read(struct client *c)
{
    char answer[4096];
    ssize_t n;

    while ((n = client_receive(c, answer, sizeof(answer))) > 0)
        c->answered |= n > 5 && memcmp(answer, "netd ", 5) == 0;
    return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void load_send_fast(struct load *l)
{
    size_t left = l->connections;
    struct epoll_event events[64];

    for (size_t i = 0; i < l->connections; i++)
        load_watch(l, i, EPOLLOUT, EPOLL_CTL_ADD);
    while (left > 0) {
        int n = epoll_wait(l->epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            struct client *c = &l->clients[events[i].data.u64];

            client_write(l, c, c->end);
            if (c->next == c->end) {
                load_watch(l, events[i].data.u64, 0, EPOLL_CTL_MOD);
                left--;
            }
        }
    }
}

/* On one connection, every millisecond what is due by then. */
static void load_send_paced(struct load *l)
{
    struct client *c = &l->clients[0];
    double start = seconds_now();

    while (c->next < c->end) {
        size_t due = (size_t)((seconds_now() - start) * (double)l->rate) * l->size;

        client_write(l, c, due);
        usleep(1000);
    }
}

static size_t load_finish(struct load *l)
{
    size_t left = l->connections, answered = 0;
    struct epoll_event events[64];

    for (size_t i = 0; i < l->connections; i++) {
        if (l->rate > 0)
            load_watch(l, i, EPOLLIN, EPOLL_CTL_ADD);
        else
            load_watch(l, i, EPOLLIN, EPOLL_CTL_MOD);
        client_finish(&l->clients[i]);
    }
    while (left > 0) {
        int n = epoll_wait(l->epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            struct client *c = &l->clients[events[i].data.u64];

            if (client_read(c))
                continue;
            answered += c->answered;
            client_close(c);
            left--;
        }
    }
    return answered;
}

static void load_together(struct load *l)
{
    double start;

    for (size_t i = 0; i < l->connections; i++) {
        struct client *c = &l->clients[i];

        *c = (struct client){
            .fd = load_connect(l, i),
            .next = l->lines * i / l->connections * l->size,
            .end = l->lines * (i + 1) / l->connections * l->size,
        };
        client_start_tls(l, c);
        client_shake_hands(c);
        unblock(c->fd);
    }
    wait_for_word(l, "connected");
    start = seconds_now();
    if (l->rate > 0)
        load_send_paced(l);
    else
        load_send_fast(l);
    printf("sent %.6f\n", seconds_now() - start);
    wait_for_word(l, "waiting");
    start = seconds_now();
    printf("closed %.6f ", seconds_now() - start);
    printf("%zu\n", load_finish(l));
}

/* Sends the line of a short session, and that it is all. */
static void client_send_all(const struct load *l, struct client *c)
{
    if (c->next == c->end)
        return;
    client_write(l, c, c->end);
    if (c->next == c->end)
        client_finish(c);
}

/* The client in slot I begins with line number LINE: connects, sends it, and will read to the end.
 */
static void load_begin(struct load *l, size_t i, size_t line)
{
    struct client *c = &l->clients[i];

    *c = (struct client){
        .fd = load_connect(l, line), .next = line * l->size, .end = (line + 1) * l->size};
    client_start_tls(l, c);
    unblock(c->fd);
    client_send_all(l, c); /* or the first of a handshake */
    load_watch(l, i, EPOLLIN, EPOLL_CTL_ADD);
}

static void load_one_by_one(struct load *l)
{
    size_t begun = 0, ended = 0, answered = 0;
    struct epoll_event events[64];
    double start;

    wait_for_word(l, "connected");
    start = seconds_now();
    while (begun < l->connections && begun < l->lines) {
        load_begin(l, begun, begun);
        begun++;
    }
    while (ended < l->lines) {
        int n = epoll_wait(l->epoll, events, 64, -1);

        for (int i = 0; i < n; i++) {
            size_t slot = events[i].data.u64;
            struct client *c = &l->clients[slot];

            client_send_all(l, c);
            if (c->next < c->end || client_read(c))
                continue;
            answered += c->answered;
            client_close(c);
            ended++;
            if (begun < l->lines)
                load_begin(l, slot, begun++);
        }
    }
    printf("sent %.6f\n", seconds_now() - start);
    wait_for_word(l, "waiting");
    printf("closed 0 %zu\n", answered);
}

int main(int argc, char **argv)
{
    struct load l = {.connections = 1, .lines = 100000, .size = 100, .ports = 1, .end = '\n'};
    bool one_each = false;
    struct rlimit files;
    int option;

    l.write_max = TURN_MAX;
    while ((option = getopt(argc, argv, "1c:C:l:mn:os:rR:tu:wy")) >= 0) {
        switch (option) {
        case '1':
            l.single = true;
            break;
        case 'c':
            l.connections = number(optarg, 1);
            break;
        case 'C':
            l.tls = tls_init(optarg);
            break;
        case 'l':
            l.ports = number(optarg, 1);
            break;
        case 'm':
            one_each = true;
            break;
        case 'n':
            l.lines = number(optarg, 0);
            break;
        case 'o':
            l.make = make_octet;
            break;
        case 's':
            l.size = number(optarg, 32);
            break;
        case 'r':
            l.end = ' ';
            break;
        case 'R':
            l.rate = number(optarg, 1);
            l.connections = 1;
            break;
        case 't':
            l.tls = tls_init(NULL);
            break;
        case 'u':
            l.path = optarg;
            break;
        case 'w':
            l.wait = true;
            break;
        case 'y':
            l.make = make_syslog;
            break;
        default:
            return EXIT_FAILURE;
        }
    }
    if (optind != argc - 1)
        return EXIT_FAILURE;
    l.port = (unsigned short)number(argv[optind], 1);

    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max = l.connections + 100;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        die("setrlimit");
    if (one_each)
        l.write_max = l.size;
    if (l.make && (l.size < 104 || l.size > 999))
        return EXIT_FAILURE;
    l.text = l.make ? l.make(l.lines, l.size) : make_lines(l.lines, l.size, l.end);
    l.clients = calloc(l.connections, sizeof(*l.clients));
    l.epoll = epoll_create1(0);
    if (!l.clients || l.epoll < 0)
        die("start");
    if (l.single)
        load_one_by_one(&l);
    else
        load_together(&l);
    return 0;
}
