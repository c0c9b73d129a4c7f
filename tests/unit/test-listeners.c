/* SPDX-License-Identifier: MIT */
/* Several listeners together, and those at unix sockets. */
#include "common/util.h"
#include "netd/worker/listener.h"
#include "netd/worker/unix-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>

#include <cmocka.h>

#define PASSED  100
#define CONFIGS 4

static struct table table;
static struct listener_config configs[CONFIG_LISTENERS_MAX];
static char directory[64];
static struct access_rule rules[8];
static char error[LISTENER_ERROR_MAX];

/* A listener called NAME at a free port. */
static void make_config(size_t i, const char *name)
{
    configs[i] = (struct listener_config){
        .address = {.host = "127.0.0.1", .mode = 0600},
        .settings = {.max_record = 4096 + (uint32_t)i, .priority = LOG_INFO, .sessions_max = 8},
    };
    snprintf(configs[i].settings.name, sizeof(configs[i].settings.name), "%s", name);
}

static void make_path(char ret[static CONFIG_PATH_SIZE], const char *name)
{
    snprintf(ret, CONFIG_PATH_SIZE, "%s/%s", directory, name);
}

/* A listener called NAME at the file FILE. */
static void make_unix_config(size_t i, const char *name, const char *file)
{
    make_config(i, name);
    make_path(configs[i].address.path, file);
}

static int setup(void **state)
{
    (void)state;
    snprintf(directory, sizeof(directory), "/tmp/netd-test-listeners.XXXXXX");
    error[0] = '\0';
    for (size_t i = 0; i < CONFIGS; i++)
        make_config(i, (const char *[]){"a", "b", "c", "d"}[i]);
    return mkdtemp(directory) ? table_create(&table, 8) : -1;
}

static int teardown(void **state)
{
    char command[128];

    (void)state;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        close_fd(&table.header->listeners[i].fd);
    table_deinit(&table);
    snprintf(command, sizeof(command), "rm -r %s", directory);
    return system(command) == 0 ? 0 : -1;
}

static int configure(uint32_t count)
{
    static struct listener_endpoints endpoints[CONFIG_LISTENERS_MAX];

    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(listener_resolve(&configs[i], true, &endpoints[i], error), 0);
    return listeners_configure(&table, configs, rules, endpoints, count, error);
}

/* The open listener that has the settings of NAME; NULL if none has. */
static struct table_listener *find(const char *name)
{
    struct table_listener *found = NULL;

    for (size_t i = 0; i < LISTENERS_MAX; i++) {
        struct table_listener *l = &table.header->listeners[i];

        if (l->fd < 0 || l->closing || strcmp(l->settings.name, name) != 0)
            continue;
        assert_null(found);
        found = l;
    }
    return found;
}

static int count_open(bool closing)
{
    int n = 0;

    for (size_t i = 0; i < LISTENERS_MAX; i++)
        n += table.header->listeners[i].fd >= 0 && !table.header->listeners[i].closing == !closing;
    return n;
}

/* Connects to PATH; returns the descriptor or a negative errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(sa.sun_path, path, strlen(path));
    if (path[0] == '@')
        sa.sun_path[0] = '\0';
    if (connect(fd, (struct sockaddr *)&sa, length) == 0)
        return fd;
    close(fd);
    return -errno;
}

static void check_connects(const char *path)
{
    int fd = connect_to(path);

    assert_true(fd >= 0);
    close(fd);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(lstat(path, &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    return st.st_mode & 07777;
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* --- Several --- */

static void each_has_its_settings(void **state)
{
    (void)state;
    assert_int_equal(configure(CONFIGS), 0);
    assert_int_equal(count_open(false), CONFIGS);
    for (size_t i = 0; i < CONFIGS; i++) {
        const struct table_listener *l = find(configs[i].settings.name);

        assert_non_null(l);
        assert_int_equal(l->settings.max_record, 4096 + i);
        assert_true(l->bound.port > 0);
    }
}

/* A reload adds one, changes one, gives one up, and leaves one alone. */
static void a_reload_changes_what_differs(void **state)
{
    int b, c, d;

    (void)state;
    assert_int_equal(configure(4), 0);
    b = find("b")->fd;
    c = find("c")->fd;
    d = find("d")->fd;
    make_config(0, "e");
    configs[2].settings.max_record = 99;
    configs[3] = configs[1]; /* in another order */
    configs[1] = configs[2];
    configs[2] = configs[3];
    assert_int_equal(configure(3), 0);
    assert_int_equal(count_open(false), 3);
    assert_int_equal(count_open(true), 2);
    assert_null(find("a"));
    assert_null(find("d"));
    assert_true(fcntl(d, F_GETFD) >= 0); /* the worker closes it */
    assert_int_equal(find("b")->fd, b);
    assert_int_equal(find("b")->settings.max_record, 4097);
    assert_int_equal(find("c")->fd, c);
    assert_int_equal(find("c")->settings.max_record, 99);
    assert_non_null(find("e"));
}

/* The address is what makes it the same one; the name is a setting. */
static void a_renamed_listener_stays_open(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(configure(1), 0);
    configs[0].address.port = find("a")->bound.port;
    assert_int_equal(configure(1), 0); /* no longer port 0 */
    fd = find("a")->fd;
    make_config(1, "x");
    snprintf(configs[0].settings.name, sizeof(configs[0].settings.name), "renamed");
    assert_int_equal(configure(2), 0);
    assert_int_equal(find("renamed")->fd, fd);
}

static void one_that_cannot_be_had_changes_nothing(void **state)
{
    char path[CONFIG_PATH_SIZE];
    int before;

    (void)state;
    assert_int_equal(configure(1), 0);
    before = find("a")->fd;
    configs[0].settings.max_record = 1;
    make_unix_config(1, "b", "b");
    make_path(path, "b");
    snprintf(configs[3].address.host, sizeof(configs[3].address.host), "192.0.2.1");
    snprintf(configs[3].origin.host, sizeof(configs[3].origin.host), "netd.conf:7: listeners.host");
    configs[3].address.port = 9;
    assert_int_equal(configure(4), -EADDRNOTAVAIL);
    assert_string_equal(error, "netd.conf:7: listeners.host: cannot listen on 192.0.2.1:9: Cannot "
                               "assign requested address");
    assert_int_equal(count_open(false), 1);
    assert_int_equal(count_open(true), 0);
    assert_int_equal(find("a")->fd, before);
    assert_int_equal(find("a")->settings.max_record, 4096);
    assert_false(exists(path));
}

/* As two names may be, that are found to be one address only when they are resolved. */
static void one_address_for_two_is_an_error(void **state)
{
    struct listener_endpoints endpoints[2];
    uint16_t port;

    (void)state;
    assert_int_equal(configure(1), 0);
    port = find("a")->bound.port;
    close_fd(&find("a")->fd);
    configs[0].address.port = configs[1].address.port = port;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(listener_resolve(&configs[i], true, &endpoints[i], error), 0);
    assert_int_equal(listeners_configure(&table, configs, rules, endpoints, 2, error), -EEXIST);
    assert_non_null(strstr(error, ": another listener has the same address"));
    assert_int_equal(count_open(false), 0);
}

/* The address that says more decides. */
static void one_address_beside_all(void **state)
{
    uint16_t port;

    (void)state;
    assert_int_equal(configure(1), 0);
    port = find("a")->bound.port;
    configs[0].address.port = configs[1].address.port = port;
    snprintf(configs[1].address.host, sizeof(configs[1].address.host), "*");
    assert_int_equal(configure(2), 0);
    assert_int_equal(count_open(false), 2);
    assert_int_equal(find("b")->bound.port, port);
}

static void sixty_four_and_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < CONFIG_LISTENERS_MAX; i++) {
        char name[16];

        snprintf(name, sizeof(name), "l%zu", i);
        make_config(i, name);
    }
    assert_int_equal(configure(CONFIG_LISTENERS_MAX), 0);
    assert_int_equal(count_open(false), CONFIG_LISTENERS_MAX);
    assert_int_equal(configure(1), 0);
    assert_int_equal(count_open(false), 1);
    assert_int_equal(count_open(true), CONFIG_LISTENERS_MAX - 1);
}

/* --- Unix sockets --- */

static void a_file_has_its_mode(void **state)
{
    static const uint16_t modes[] = {0666, 0600, 0, 0777, 0060};
    char path[CONFIG_PATH_SIZE];
    mode_t mask = umask(0027);

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        char file[8];

        snprintf(file, sizeof(file), "%zu", i);
        make_unix_config(0, "a", file);
        make_path(path, file);
        configs[0].address.mode = modes[i];
        assert_int_equal(configure(1), 0);
        assert_string_equal(find("a")->path, path);
        assert_int_equal(mode_of(path), modes[i]);
        if (modes[i] & S_IWUSR || geteuid() == 0) /* unix(7): it takes write permission */
            check_connects(path);
    }
    assert_int_equal(umask(mask), 0027);
}

static void a_new_mode_needs_no_new_socket(void **state)
{
    char path[CONFIG_PATH_SIZE];
    int fd;

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    assert_int_equal(configure(1), 0);
    fd = find("a")->fd;
    configs[0].address.mode = 0666;
    assert_int_equal(configure(1), 0);
    assert_int_equal(find("a")->fd, fd);
    assert_int_equal(mode_of(path), 0666);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* Somebody removed it: nobody could connect any more. */
static void a_file_that_is_gone_comes_back(void **state)
{
    char path[CONFIG_PATH_SIZE];

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    assert_int_equal(configure(1), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(configure(1), 0);
    assert_int_equal(count_open(false), 1);
    assert_int_equal(count_open(true), 1);
    check_connects(path);
}

static void files_go_with_their_listeners(void **state)
{
    char a[CONFIG_PATH_SIZE], b[CONFIG_PATH_SIZE];

    (void)state;
    make_unix_config(0, "a", "a");
    make_unix_config(1, "b", "b");
    make_path(a, "a");
    make_path(b, "b");
    assert_int_equal(configure(2), 0);
    configs[0] = configs[1];
    assert_int_equal(configure(1), 0);
    assert_false(exists(a));
    assert_true(exists(b));
    listeners_remove_files(&table);
    assert_false(exists(b));
}

/* Another program's file stays. */
static void only_our_own_file_is_removed(void **state)
{
    char path[CONFIG_PATH_SIZE];

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    assert_int_equal(configure(1), 0);
    assert_int_equal(unlink(path), 0);
    close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    listeners_remove_files(&table);
    assert_true(exists(path));
}

static void a_stale_file_is_replaced(void **state)
{
    char path[CONFIG_PATH_SIZE];

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    assert_int_equal(configure(1), 0);
    close_fd(&find("a")->fd); /* it was killed */
    assert_int_equal(connect_to(path), -ECONNREFUSED);
    assert_int_equal(configure(1), 0);
    check_connects(path);
}

static void a_file_in_use_is_an_error(void **state)
{
    struct unix_socket_file file;
    char path[CONFIG_PATH_SIZE], expected[LISTENER_ERROR_MAX];
    int fd;

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    snprintf(configs[0].origin.host, sizeof(configs[0].origin.host), "netd.conf:7: listeners.path");
    fd = unix_socket_listen(path, 0600, 0, &file);
    assert_true(fd >= 0);
    for (int i = 0; i < 3; i++) { /* and with its queue full */
        assert_int_equal(configure(1), -EADDRINUSE);
        snprintf(expected, sizeof(expected),
                 "netd.conf:7: listeners.path: cannot listen on %s: another program listens there",
                 path);
        assert_string_equal(error, expected);
    }
    assert_true(unix_socket_is_there(path, &file));
    close(fd);
}

static void other_files_are_errors(void **state)
{
    char path[CONFIG_PATH_SIZE], target[CONFIG_PATH_SIZE];

    (void)state;
    make_unix_config(0, "a", "s");
    make_path(path, "s");
    make_path(target, "target");
    for (int i = 0; i < 3; i++) {
        if (i == 0)
            close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        else if (i == 1)
            assert_int_equal(mkdir(path, 0700), 0);
        else
            assert_int_equal(symlink(target, path), 0);
        assert_int_equal(configure(1), -EEXIST);
        assert_non_null(strstr(error, "/s: the file is not a socket"));
        assert_int_equal(remove(path), 0);
    }
}

static void a_path_without_a_directory_is_an_error(void **state)
{
    (void)state;
    make_unix_config(0, "a", "none/s");
    assert_int_equal(configure(1), -ENOENT);
    assert_non_null(strstr(error, "/none/s: its directory does not exist"));
}

static void abstract_names(void **state)
{
    char name[CONFIG_PATH_SIZE];

    (void)state;
    snprintf(name, sizeof(name), "@netd-test-listeners-%d", (int)getpid());
    strcpy(configs[0].address.path, name);
    assert_int_equal(configure(1), 0);
    assert_string_equal(find("a")->path, name);
    check_connects(name);
    configs[1] = configs[0];
    assert_int_equal(configure(1), 0);
    assert_int_equal(count_open(true), 0);
    find("a")->settings.max_record = 7;
    assert_int_equal(configure(2), -EEXIST);
    listeners_remove_files(&table); /* nothing to remove */
    check_connects(name);
}

static void the_longest_path(void **state)
{
    char path[CONFIG_PATH_SIZE];
    size_t length;

    (void)state;
    make_unix_config(0, "a", "");
    length = strlen(configs[0].address.path);
    memset(configs[0].address.path + length, 'x', CONFIG_PATH_SIZE - 1 - length);
    configs[0].address.path[CONFIG_PATH_SIZE - 1] = '\0';
    strcpy(path, configs[0].address.path);
    assert_int_equal(configure(1), 0);
    assert_string_equal(find("a")->path, path);
    check_connects(path);
    configs[0].address.path[0] = '@';
    assert_int_equal(configure(1), 0);
    assert_string_equal(find("a")->path, configs[0].address.path);
    assert_false(exists(path));
}

/* --- Passed by systemd --- */

static void pass_tcp(int i)
{
    struct sockaddr_storage sa = {.ss_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(struct sockaddr_in)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(dup3(fd, PASSED + i, O_CLOEXEC), PASSED + i);
    close(fd);
}

static void passed_sockets_have_names(void **state)
{
    char longer[2 * LISTENER_NAME_MAX];
    char *names[] = {"b", "netd.socket", "b", longer};

    (void)state;
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    for (int i = 0; i < 3; i++)
        pass_tcp(i);
    assert_int_equal(listeners_adopt(&table, PASSED, 3, names, error), 0);
    assert_int_equal(configure(3), 0);
    /* The third listens at its own address; the first does not, and another socket has its
     * settings. */
    assert_int_equal(count_open(false), 4);
    assert_string_equal(table.header->listeners[0].settings.name, "b");
    assert_string_equal(table.header->listeners[1].settings.name, "a");
    assert_string_equal(table.header->listeners[2].settings.name, "b");
    assert_false(find("c")->passed);
    /* A reload that knows more of them. */
    snprintf(configs[0].settings.name, sizeof(configs[0].settings.name), "z");
    snprintf(configs[2].settings.name, sizeof(configs[2].settings.name), "netd.socket");
    assert_int_equal(configure(3), 0);
    assert_string_equal(table.header->listeners[1].settings.name, "netd.socket");
    assert_non_null(find("z")); /* nothing is passed for it any more */
    assert_false(find("z")->passed);
}

static void a_name_beside_passed_sockets_is_not_resolved(void **state)
{
    char *names[] = {"a"};

    (void)state;
    pass_tcp(0);
    assert_int_equal(listeners_adopt(&table, PASSED, 1, names, error), 0);
    snprintf(configs[1].address.host, sizeof(configs[1].address.host), "example.net");
    assert_int_equal(configure(2), -EINVAL);
    assert_string_equal(error, "cannot resolve 'example.net': names are not looked up when systemd "
                               "passes sockets");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_has_its_settings),
        TEST(a_reload_changes_what_differs),
        TEST(a_renamed_listener_stays_open),
        TEST(one_that_cannot_be_had_changes_nothing),
        TEST(one_address_for_two_is_an_error),
        TEST(one_address_beside_all),
        TEST(sixty_four_and_back),
        TEST(a_file_has_its_mode),
        TEST(a_new_mode_needs_no_new_socket),
        TEST(a_file_that_is_gone_comes_back),
        TEST(files_go_with_their_listeners),
        TEST(only_our_own_file_is_removed),
        TEST(a_stale_file_is_replaced),
        TEST(a_file_in_use_is_an_error),
        TEST(other_files_are_errors),
        TEST(a_path_without_a_directory_is_an_error),
        TEST(abstract_names),
        TEST(the_longest_path),
        TEST(passed_sockets_have_names),
        TEST(a_name_beside_passed_sockets_is_not_resolved),
    };

    alarm(60); /* what hangs, fails */
    return cmocka_run_group_tests_name("listeners", tests, NULL, NULL);
}
