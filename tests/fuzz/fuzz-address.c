/* SPDX-License-Identifier: MIT */
/*
 * Any environment and any options; any number; and any socket address, which must be the same when
 * its text is parsed again.
 */
#include "common/address.h"
#include "common/util.h"

#include "settings.h"

#include <sys/mman.h>
#include <unistd.h>

/* The setting of highest precedence is in force, unchanged. */
static void check_settings(const struct config *c, const struct config_input *said)
{
    const char *host = said->option_host ? said->option_host : said->env_host;
    const char *port = said->option_port ? said->option_port : said->env_port;
    char digits[8];

    snprintf(digits, sizeof(digits), "%u", c->listeners[0].address.port);
    MUST(strcmp(c->listeners[0].address.host, host ? host : "127.0.0.1") == 0);
    MUST(strcmp(digits, port ? port : "3000") == 0);
    MUST(said->option_output || c->service.output == OUTPUT_AUTO);
}

static void try_settings(struct input in)
{
    static char path[64];
    const struct config *config;
    struct config_input said;
    char *lines[5];

    if (!path[0]) {
        int fd = memfd_create("empty", MFD_CLOEXEC);

        MUST(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        lines[i] = input_line(&in);
        if (lines[i] && strcmp(lines[i], "-") == 0) { /* not set */
            free(lines[i]);
            lines[i] = NULL;
        }
    }
    said = (struct config_input){.file = path,
                                 .env_host = lines[0],
                                 .env_port = lines[1],
                                 .option_host = lines[2],
                                 .option_port = lines[3],
                                 .option_output = lines[4]};
    config = settings_try(&said);
    if (config)
        check_settings(config, &said);
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        free(lines[i]);
}

static void try_number(struct input in)
{
    char *text = input_line(&in), again[32];
    uint64_t value = 1234567;
    int r;

    if (!text)
        return;
    r = parse_u64(text, UINT64_MAX - 7, &value);
    if (r == 0) {
        snprintf(again, sizeof(again), "%llu", (unsigned long long)value);
        MUST(strcmp(text, again) == 0);
        MUST(parse_u64(text, value, &value) == 0);
        MUST(value == 0 || parse_u64(text, value - 1, &value) == -ERANGE);
    } else {
        MUST(r == -EINVAL || r == -ERANGE);
        MUST(value == 1234567);
        MUST(strspn(text, "0123456789") != strlen(text) || strlen(text) >= 20 || text[0] == '0' ||
             text[0] == '\0');
    }
    free(text);
}

static void try_address(struct input in)
{
    char address[ENDPOINT_ADDRESS_MAX], text[ENDPOINT_TEXT_MAX];
    struct sockaddr_storage sa = {0};
    struct addrinfo *list = NULL;
    struct endpoint e, again;
    socklen_t length = (socklen_t)min_size(in.size, sizeof(sa));

    memcpy(&sa, in.data, length);
    endpoint_from_sockaddr(&e, &sa, length);
    endpoint_address(&e, address);
    endpoint_format(&e, text);
    MUST(strlen(address) < ENDPOINT_ADDRESS_MAX && strlen(text) < ENDPOINT_TEXT_MAX);
    for (const char *p = text; *p; p++)
        MUST(*p > ' ' && *p <= '~');
    if (e.family == AF_UNIX) {
        MUST(strcmp(text, "unix") == 0);
        return;
    }
    MUST(address_resolve(address, e.port, 0, &list) == 0);
    memset(&sa, 0, sizeof(sa));
    memcpy(&sa, list->ai_addr, list->ai_addrlen);
    endpoint_from_sockaddr(&again, &sa, list->ai_addrlen);
    freeaddrinfo(list);
    MUST(endpoint_same_address(&e, &again) && e.port == again.port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};

    switch (input_number(&in, 1) % 3) {
    case 0:
        try_settings(in);
        break;
    case 1:
        try_number(in);
        break;
    default:
        try_address(in);
    }
    return 0;
}
