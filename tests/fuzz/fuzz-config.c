/* SPDX-License-Identifier: MIT */
/*
 * Any configuration file gives settings within their limits, or one line that names the error. Any
 * number for any key is taken as it is or rejected, never changed.
 */
#include "common/util.h"
#include "netd/config/print.h"

#include "settings.h"

#include <sys/mman.h>
#include <unistd.h>

/* Maximum number of digits: enough to wrap around in 64 bits more than once. */
#define DIGITS_MAX 24

static const struct config *load(const void *data, size_t size)
{
    static char path[64];
    static int fd = -1;

    if (fd < 0) {
        fd = memfd_create("netd.conf", MFD_CLOEXEC);
        MUST(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    MUST(ftruncate(fd, 0) == 0);
    MUST(pwrite(fd, data, size, 0) == (ssize_t)size);
    return settings_try(&(struct config_input){.file = path});
}

/* --- A number --- */

static const struct row {
    const char *key;
    uint64_t low, high;
} rows[] = {
    {"port", 0, 65535},
    {"max_record", MAX_RECORD_LOW, MAX_RECORD_HIGH},
    {"flush_timeout", 0, SECONDS_HIGH},
    {"max_rate", 0, MAX_RATE_HIGH},
    {"sessions: {max", 1, SESSIONS_MAX_HIGH},
    {"sessions: {max_per_address", 0, SESSIONS_MAX_HIGH},
    {"sessions: {idle_timeout", 0, SECONDS_HIGH},
    {"sessions: {stop_timeout", 0, SECONDS_HIGH},
    {"sessions: {buffer_memory", BUFFER_MEMORY_LOW, BUFFER_MEMORY_HIGH},
};

static uint64_t value_of(const struct config *c, size_t row)
{
    const struct listener_settings *l = &c->listeners[0].settings;
    const uint64_t values[] = {
        c->listeners[0].address.port,
        l->max_record,
        l->flush_timeout,
        l->max_rate,
        c->service.sessions_max,
        c->service.sessions_max_per_address,
        l->idle_timeout,
        c->service.stop_timeout,
        c->service.buffer_memory,
    };

    return values[row];
}

/* Returns the unsigned value of DIGITS, saturated above the limit of every key. */
static uint64_t number_of(const char *digits)
{
    uint64_t value = 0;

    for (; *digits; digits++)
        value = min_u64(value * 10 + (uint64_t)(*digits - '0'), UINT64_MAX / 16);
    return value;
}

/* The rest of the input as digits, without a leading 0, which libconfig may take for octal. */
static void input_digits(struct input *in, char ret[static DIGITS_MAX + 1])
{
    size_t n = 0;

    while (in->size > 0 && n < DIGITS_MAX) {
        char digit = (char)('0' + input_number(in, 1) % 10);

        if (n > 0 || digit != '0')
            ret[n++] = digit;
    }
    if (n == 0)
        ret[n++] = '0';
    ret[n] = '\0';
}

static void try_number(struct input in)
{
    uint32_t settings = input_number(&in, 1);
    size_t row = input_number(&in, 1) % ARRAY_SIZE(rows);
    bool negative = settings & 1, wide = settings & 2;
    char digits[DIGITS_MAX + 1], text[128];
    const struct config *config;
    uint64_t value;
    int length;

    if (settings & 4) { /* near a limit */
        value = settings & 8 ? rows[row].high : rows[row].low;
        value += input_number(&in, 1) % 3;
        snprintf(digits, sizeof(digits), "%llu", (unsigned long long)(value > 0 ? value - 1 : 0));
    } else {
        input_digits(&in, digits);
    }
    length = snprintf(text, sizeof(text), "%s = %s%s%s;%s", rows[row].key, negative ? "-" : "",
                      digits, wide ? "L" : "", strchr(rows[row].key, '{') ? "}" : "");
    value = number_of(digits);
    config = load(text, (size_t)length);
    if ((negative && value > 0) || value < rows[row].low || value > rows[row].high ||
        (value > INT32_MAX && !wide))
        MUST(!config);
    else
        MUST(config && value_of(config, row) == value);
}

/* --- What is printed --- */

/* Prints CONFIG, which has no more than SIZE - 1 bytes of text then. */
static size_t print(const struct config *config, char *ret, size_t size)
{
    FILE *f = fmemopen(ret, size, "w");
    long length;

    MUST(f);
    config_print(f, config);
    length = ftell(f);
    MUST(fclose(f) == 0 && length > 0 && (size_t)length < size);
    return (size_t)length;
}

/* A file as it is printed says the same again. */
static void try_print(const struct config *config)
{
    static char first[1 << 20], second[sizeof(first)];
    size_t length = print(config, first, sizeof(first));

    config = load(first, length);
    MUST(config);
    MUST(print(config, second, sizeof(second)) == length && memcmp(first, second, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    if (size > 0 && data[0] == 0) { /* marks a number; no file starts with it */
        (void)input_number(&in, 1);
        try_number(in);
    } else {
        const struct config *config = load(data, size);

        if (config)
            try_print(config);
    }
    return 0;
}
