/* SPDX-License-Identifier: MIT */
#include "netd/output/stream.h"

#include "common/util.h"

#include "random.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "batch.h"

static int teardown(void **state)
{
    (void)state;
    if (batch->stream.buffer > 0)
        close(batch->stream.buffer);
    for (int i = 0; i < 2; i++)
        if (batch->stream.pipe[i] > 0)
            close(batch->stream.pipe[i]);
    batch_teardown();
    return 0;
}

/* Prepares the sink with FD as standard output, which the test gets back. */
static void begin_stdout(int fd, enum output output)
{
    int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), r;

    fflush(stdout);
    assert_true(saved >= 0);
    assert_int_equal(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
    r = sink_init(sink, output, NULL, batch);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    assert_int_equal(r, 0);
}

/* Writes COUNT entries to FD while what comes out at READER is compared. */
static void check_stdout(int reader, uint64_t count)
{
    uint64_t pushed = 0, committed = 0, received = 0;
    static uint8_t in[1024 * 1024];
    static size_t sizes[1000];
    size_t held = 0;

    assert_true(count <= ARRAY_SIZE(sizes));
    while (received < count) {
        size_t want = random_below(2) ? 1 + random_below(5000) : sizeof(in) - held;
        ssize_t n;
        int r;

        while (pushed < count && sink_has_room(sink) && random_below(30) > 0) {
            sizes[pushed] = random_below(random_below(5) ? 300 : 150000);
            push(pushed, sizes[pushed]);
            pushed++;
        }
        r = sink_send(sink);
        assert_true(r == 0 || r == 1);
        (void)commit(&committed);
        if (r == 0) {
            assert_int_equal(committed, pushed);
            assert_int_equal(batch->stream.loaded, 0);
            sink_reset(sink);
        } else {
            assert_int_equal(sink->blocked_errno, EAGAIN);
        }
        n = read(reader, in + held, min_size(want, sizeof(in) - held));
        held += n > 0 ? (size_t)n : 0;
        while (received < pushed && held >= 8 + sizes[received]) {
            size_t size = 8 + sizes[received];
            char digits[9];

            snprintf(digits, sizeof(digits), "%08u", (unsigned)received);
            assert_memory_equal(in, digits, 8);
            assert_memory_equal(in + 8, entry_text, sizes[received]);
            memmove(in, in + size, held - size);
            held -= size;
            received++;
        }
    }
    assert_int_equal(held, 0);
}

static void pipe_takes_what_it_can(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    begin_stdout(fds[1], OUTPUT_EXPORT);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    check_stdout(fds[0], 1000);
    /* The pipe that others share did not change. */
    assert_int_equal(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
    close(fds[0]);
    close(fds[1]);
}

static void stream_socket_takes_what_it_can(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    begin_stdout(fds[1], OUTPUT_TEXT);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    check_stdout(fds[0], 1000);
    close(fds[0]);
    close(fds[1]);
}

static void file_takes_everything(void **state)
{
    uint64_t next = 0;
    struct stat st;
    int fd;

    (void)state;
    fd = memfd_create("output", MFD_CLOEXEC);
    assert_true(fd >= 0);
    begin_stdout(fd, OUTPUT_TEXT);
    for (uint64_t i = 0; i < BATCH_MAX; i++)
        push(i, 1000);
    assert_int_equal(sink_send(sink), 0);
    assert_int_equal(commit(&next), BATCH_MAX);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, BATCH_MAX * 1008);
    close(fd);
}

static void reader_that_is_gone_is_fatal(void **state)
{
    int fds[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        else
            assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        begin_stdout(fds[1], OUTPUT_TEXT);
        push(0, 100);
        close(fds[0]);
        assert_int_equal(sink_send(sink), -EPIPE);
        assert_false(batch_taken(batch));
        sink_deinit(sink);
        batch_reset(batch);
        close(fds[1]);
    }
}

/* Space may come back: no reason to end. */
static void full_device_is_waited_for(void **state)
{
    int fd;

    (void)state;
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    begin_stdout(fd, OUTPUT_TEXT);
    push(0, 100);
    assert_int_equal(sink_send(sink), 1);
    assert_int_equal(sink->blocked_errno, ENOSPC);
    assert_true(sink_retry_usec(sink) >= 10000);
    close(fd);
}

static void closed_standard_output_is_an_error(void **state)
{
    int saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), r;

    (void)state;
    fflush(stdout);
    close(STDOUT_FILENO);
    r = sink_init(sink, OUTPUT_TEXT, NULL, batch);
    assert_int_equal(dup2(saved, STDOUT_FILENO), STDOUT_FILENO);
    close(saved);
    assert_int_equal(r, -EBADF);
}

/* --- Death --- */

/* What the next worker finds, as in the session table. */
struct shared {
    struct batch batch;
    uint64_t committed; /* entries that were taken */
    bool started;       /* the worker has its sink */
};

#define DEATH_ENTRIES 400

static size_t size_of(uint64_t number)
{
    return (size_t)(number % 17 == 3 ? 20000 + number * 37 % 50000 : number * 7919 % 900);
}

/* A worker: finishes what the last one left, and goes on from there. */
static _Noreturn void live(struct shared *shared, int fd)
{
    bool adopted = false;

    begin_stdout(fd, OUTPUT_EXPORT);
    __atomic_store_n(&shared->started, true, __ATOMIC_RELEASE);
    for (;;) {
        int r = adopted ? sink_send(sink) : sink_resume(sink);

        for (; batch_taken(batch); batch->first++)
            shared->committed = batch->items[batch->first].records + 1;
        if (r < 0)
            _exit(1);
        if (r > 0)
            continue;
        adopted = true;
        batch_reset(batch);
        sink->arena.used = 0;
        if (shared->committed == DEATH_ENTRIES)
            _exit(0);
        for (uint64_t i = shared->committed; i < DEATH_ENTRIES && sink_has_room(sink); i++)
            push(i, size_of(i));
    }
}

/* Compares what came out, in pieces of any size. */
struct reader {
    uint64_t number; /* of the entry that is coming */
    size_t at;       /* bytes of it that came */
};

static void reader_add(struct reader *r, const char *data, size_t length)
{
    char digits[9];

    for (size_t i = 0; i < length; i++) {
        snprintf(digits, sizeof(digits), "%08u", (unsigned)r->number);
        assert_int_equal(data[i], r->at < 8 ? digits[r->at] : '.');
        if (++r->at == 8 + size_of(r->number)) {
            r->number++;
            r->at = 0;
        }
    }
}

/* Kills workers that write to OUT at any moment, until one of them is done; reads what comes out of
 * IN, or at the end of the file OUT where IN is -1. */
static void kill_and_read(int in, int out)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    static char data[65536];
    struct reader reader = {0};
    struct batch *own = batch;
    int status = -1, kills = 0;
    ssize_t n;

    assert_true(shared != MAP_FAILED);
    batch = &shared->batch;
    begin_stdout(out, OUTPUT_EXPORT); /* makes the descriptors that all share */
    sink_deinit(sink);
    for (; status != 0; kills++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0)
            live(shared, out);
        while (!__atomic_load_n(&shared->started, __ATOMIC_ACQUIRE))
            (void)sched_yield();
        shared->started = false;
        if (in < 0)
            (void)usleep((useconds_t)random_below(100));
        for (size_t i = random_below(600); in >= 0 && i > 0; i--)
            if (random_below(20) == 0 && (n = read(in, data, 1 + random_below(5000))) > 0)
                reader_add(&reader, data, (size_t)n);
        if (reader.number >= DEATH_ENTRIES || kills > random_rounds(1000)) {
            while (waitpid(pid, &status, WNOHANG) == 0)
                if (in >= 0 && (n = read(in, data, sizeof(data))) > 0)
                    reader_add(&reader, data, (size_t)n);
        } else {
            (void)kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, &status, 0), pid);
        }
        stream_settle(&batch->stream, out);
    }
    while (in >= 0 && (n = read(in, data, sizeof(data))) > 0)
        reader_add(&reader, data, (size_t)n);
    for (off_t at = 0; in < 0 && (n = pread(out, data, sizeof(data), at)) > 0; at += n)
        reader_add(&reader, data, (size_t)n);
    assert_int_equal(reader.number, DEATH_ENTRIES);
    assert_int_equal(reader.at, 0);
    batch = own;
    close_fd(&shared->batch.stream.buffer);
    if (shared->batch.stream.kind == STREAM_PIPE) {
        close(shared->batch.stream.pipe[0]);
        close(shared->batch.stream.pipe[1]);
    }
    munmap(shared, sizeof(*shared));
}

static void dead_worker_tears_nothing_in_a_pipe(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    kill_and_read(fds[0], fds[1]);
    close(fds[0]);
    close(fds[1]);
}

static void dead_worker_tears_nothing_in_a_socket(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    kill_and_read(fds[0], fds[1]);
    close(fds[0]);
    close(fds[1]);
}

static void dead_worker_tears_nothing_in_a_terminal(void **state)
{
    struct termios raw;
    int master, slave;

    (void)state;
    assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
    assert_int_equal(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    assert_int_equal(fcntl(master, F_SETFL, O_NONBLOCK), 0);
    kill_and_read(master, slave);
    close(master);
    close(slave);
}

static void dead_worker_tears_nothing_in_a_file(void **state)
{
    (void)state;
    for (int i = 0; i < random_rounds(20); i++) {
        int fd = memfd_create("output", MFD_CLOEXEC);

        assert_true(fd >= 0);
        if (i % 2 == 1)
            assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
        kill_and_read(-1, fd);
        close(fd);
    }
}

/* What the supervisor says in the same file, with O_APPEND or not, is in between. */
static void file_may_be_shared(void **state)
{
    char said[64] = "";
    uint64_t next = 0;
    int fd;

    (void)state;
    for (int i = 0; i < 2; i++) {
        fd = memfd_create("output", MFD_CLOEXEC);
        if (i == 1)
            assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0);
        assert_int_equal(write(fd, "begin ", 6), 6);
        assert_int_equal(lseek(fd, 0, i == 1 ? SEEK_SET : SEEK_CUR), i == 1 ? 0 : 6);
        next = 0;
        begin_stdout(fd, OUTPUT_TEXT);
        push(0, 2);
        assert_int_equal(sink_send(sink), 0);
        assert_int_equal(commit(&next), 1);
        /* It dies behind the call, and before it could say what that took. */
        batch->stream.handed = 1;
        batch->stream.loaded = 1;
        batch->messages[0].msg_len = NOT_TAKEN;
        batch->first = 0;
        stream_settle(&batch->stream, fd);
        assert_int_equal(batch->stream.handed, 20);
        stream_settle(&batch->stream, fd);
        assert_int_equal(write(fd, " dead ", 6), 6);
        sink_deinit(sink);
        begin_stdout(fd, OUTPUT_TEXT);
        assert_int_equal(sink_resume(sink), 0);
        assert_true(batch_taken(batch));
        batch_reset(batch);
        assert_int_equal(pread(fd, said, sizeof(said), 0), 22);
        assert_memory_equal(said, "begin 00000000.. dead ", 22);
        sink_deinit(sink);
        close(fd);
    }
}

/* A worker that crashed may have written anything: then nobody knows what is out. */
static void impossible_progress_is_given_up(void **state)
{
    int fds[2];

    (void)state;
    for (int i = 0; i < 7; i++) {
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        begin_stdout(fds[1], OUTPUT_TEXT);
        push(0, 100);
        assert_int_equal(sink_send(sink), 0);
        batch->first = 0;
        batch->stream.loaded = 1;
        switch (i) {
        case 0:
            batch->stream.loaded = 2;
            break;
        case 1:
            batch->stream.length = UINT32_MAX;
            break;
        case 2:
            batch->stream.handed = UINT64_MAX;
            break;
        case 3:
            batch->stream.kind = STREAM_FILE;
            break;
        case 4:
            batch->stream.kind = UINT32_MAX;
            break;
        case 5:
            close(batch->stream.buffer);
            batch->stream.buffer = fds[1];
            break;
        case 6:
            close(batch->stream.pipe[1]);
            batch->stream.pipe[1] = fds[1];
            break;
        }
        sink_deinit(sink);
        begin_stdout(fds[1], OUTPUT_TEXT);
        assert_int_equal(sink_resume(sink), 0);
        assert_true(batch->end > BATCH_MAX);
        batch_reset(batch);
        push(1, 100);
        assert_int_equal(sink_send(sink), 0); /* and goes on */
        batch_reset(batch);
        close(fds[0]);
        close(fds[1]);
    }
}

/* Any bytes at all: nothing out of bounds, and the output goes on. */
static void garbage_is_survived(void **state)
{
    static char discard[65536];
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    begin_stdout(fds[1], OUTPUT_TEXT);
    for (int i = 0; i < random_rounds(3000); i++) {
        struct stream_progress good = batch->stream;
        uint8_t *bytes = (uint8_t *)&batch->stream;

        push(0, random_below(3000));
        (void)sink_send(sink);
        for (size_t n = random_below(20); n > 0; n--)
            bytes[random_below(sizeof(batch->stream))] =
                (uint8_t)(random_below(2) ? random_next() : 0);
        if (random_below(2))
            batch->stream.loaded = 1;
        /* Numbers of descriptors that are others' by now are in nobody's table. */
        batch->stream.buffer = good.buffer;
        memcpy(batch->stream.pipe, good.pipe, sizeof(good.pipe));
        stream_settle(&batch->stream, fds[1]);
        sink_deinit(sink);
        begin_stdout(fds[1], OUTPUT_TEXT);
        while (sink_resume(sink) != 0)
            assert_true(read(fds[0], discard, sizeof(discard)) > 0);
        batch_reset(batch);
        while (read(fds[0], discard, sizeof(discard)) > 0)
            ;
    }
    close(fds[0]);
    close(fds[1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, batch_setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pipe_takes_what_it_can),
        TEST(stream_socket_takes_what_it_can),
        TEST(file_takes_everything),
        TEST(reader_that_is_gone_is_fatal),
        TEST(full_device_is_waited_for),
        TEST(closed_standard_output_is_an_error),
        TEST(dead_worker_tears_nothing_in_a_pipe),
        TEST(dead_worker_tears_nothing_in_a_socket),
        TEST(dead_worker_tears_nothing_in_a_terminal),
        TEST(dead_worker_tears_nothing_in_a_file),
        TEST(file_may_be_shared),
        TEST(impossible_progress_is_given_up),
        TEST(garbage_is_survived),
    };

    random_begin();
    alarm(300); /* what hangs, fails */
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
