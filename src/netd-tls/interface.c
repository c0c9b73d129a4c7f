/* SPDX-License-Identifier: MIT */
#include "netd-tls/interface.h"

#include "common/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * The layout in the memfd: a struct file, its listeners, then bytes. Strings end with NUL. A range
 * says where in the file something is.
 */
#define FILE_MAGIC   "netd-tls"
#define FILE_VERSION 2
#define FILE_MAX     (16U << 20)

struct range {
    uint32_t offset, length; /* bytes; 0, 0: absent */
};

struct file_listener {
    uint32_t id, counters;
    int32_t fd;
    uint32_t min_minor;
    uint32_t n_client_names, n_client_fingerprints;
    struct range internal, certificate, key, client_ca;
    struct range client_names; /* strings, one after the other */
    struct range client_fingerprints;
};

struct file {
    char magic[8];
    uint32_t version, size; /* of all, bytes */
    uint32_t connections_max, handshakes_max, handshake_timeout_ms, linger_timeout_ms;
    uint32_t refusals_per_second, n_listeners;
    struct file_listener listeners[];
};

/* --- Writing --- */

struct writer {
    uint8_t *data;
    size_t length;
    int error; /* the first one, or 0 */
};

static struct range writer_add(struct writer *w, const void *data, size_t length)
{
    struct range range = {(uint32_t)w->length, (uint32_t)length};
    uint8_t *grown;

    if (w->error == 0 && length > FILE_MAX - w->length)
        w->error = -EINVAL;
    if (w->error < 0 || length == 0)
        return (struct range){0};
    grown = realloc(w->data, w->length + length);
    if (!grown) {
        w->error = -ENOMEM;
        return (struct range){0};
    }
    memcpy(grown + w->length, data, length);
    w->data = grown;
    w->length += length;
    return range;
}

/* TEXT may be NULL. */
static struct range writer_add_text(struct writer *w, const char *text, size_t limit)
{
    if (text && strlen(text) >= limit)
        w->error = -EINVAL;
    return text ? writer_add(w, text, strlen(text) + 1) : (struct range){0};
}

static struct file_listener writer_add_listener(struct writer *w,
                                                const struct tls_listener_settings *l)
{
    struct file_listener out = {
        .id = l->id,
        .counters = l->counters,
        .fd = l->fd,
        .min_minor = l->min_minor,
        .n_client_names = l->n_client_names,
        .n_client_fingerprints = l->n_client_fingerprints,
    };

    if (l->id >= TLS_LISTENERS_MAX || l->counters >= TLS_COUNTERS_MAX ||
        l->n_client_names > TLS_NAMES_MAX || l->n_client_fingerprints > TLS_FINGERPRINTS_MAX ||
        l->internal_length > sizeof(l->internal) || !l->certificate || !l->key) {
        w->error = -EINVAL;
        return out;
    }
    out.internal = writer_add(w, &l->internal, l->internal_length);
    out.certificate = writer_add_text(w, l->certificate, PATH_MAX);
    out.key = writer_add_text(w, l->key, PATH_MAX);
    out.client_ca = writer_add_text(w, l->client_ca, PATH_MAX);
    for (uint32_t i = 0; i < l->n_client_names; i++) {
        struct range name = writer_add_text(w, l->client_names[i], TLS_NAME_MAX + 1);

        if (i == 0)
            out.client_names.offset = name.offset;
        out.client_names.length += name.length;
    }
    out.client_fingerprints = writer_add(w, l->client_fingerprints,
                                         l->n_client_fingerprints * (size_t)TLS_FINGERPRINT_SIZE);
    return out;
}

static void writer_add_all(struct writer *w, const struct tls_settings *settings)
{
    struct file file = {
        .version = FILE_VERSION,
        .connections_max = settings->connections_max,
        .handshakes_max = settings->handshakes_max,
        .handshake_timeout_ms = settings->handshake_timeout_ms,
        .linger_timeout_ms = settings->linger_timeout_ms,
        .refusals_per_second = settings->refusals_per_second,
        .n_listeners = settings->n_listeners,
    };
    struct file_listener listeners[TLS_LISTENERS_MAX] = {0};

    if (file.n_listeners > TLS_LISTENERS_MAX) {
        w->error = -EINVAL;
        return;
    }
    memcpy(file.magic, FILE_MAGIC, sizeof(file.magic)); /* without its NUL */
    (void)writer_add(w, &file, sizeof(file));
    (void)writer_add(w, listeners, file.n_listeners * sizeof(listeners[0]));
    for (uint32_t i = 0; i < file.n_listeners; i++)
        listeners[i] = writer_add_listener(w, &settings->listeners[i]);
    if (w->error < 0)
        return;
    file.size = (uint32_t)w->length;
    memcpy(w->data, &file, sizeof(file));
    memcpy(w->data + sizeof(file), listeners, file.n_listeners * sizeof(listeners[0]));
}

static int write_memfd(const uint8_t *data, size_t length)
{
    CLEANUP(close_fd) int fd = memfd_create("netd-tls", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = fd;
    ssize_t n;

    if (fd < 0)
        return -errno;
    n = write(fd, data, length);
    if (n != (ssize_t)length)
        return n < 0 ? -errno : -ENOSPC;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -errno;
    fd = -1;
    return r;
}

int tls_settings_create(const struct tls_settings *settings)
{
    struct writer w = {0};
    int r;

    writer_add_all(&w, settings);
    r = w.error < 0 ? w.error : write_memfd(w.data, w.length);
    free(w.data);
    return r;
}

/* --- Reading --- */

struct reader {
    const uint8_t *data; /* a struct file */
    size_t length;
    const char **names; /* where the next pointers to names go */
};

static bool range_is_valid(const struct reader *r, struct range range)
{
    return range.offset <= r->length && range.length <= r->length - range.offset;
}

/* True if RANGE is one string that fits LIMIT bytes with its NUL. */
static bool text_is_valid(const struct reader *r, struct range range, size_t limit)
{
    return range_is_valid(r, range) && range.length > 0 && range.length <= limit &&
           memchr(r->data + range.offset, '\0', range.length) ==
               r->data + range.offset + range.length - 1;
}

/* Counts the strings in RANGE, each within TLS_NAME_MAX; -1 if the last one has no end. */
static int64_t count_names(const struct reader *r, struct range range)
{
    const uint8_t *at = r->data + range.offset, *end = at + range.length;
    int64_t count = 0;

    for (; at < end; count++) {
        const uint8_t *nul = memchr(at, '\0', (size_t)(end - at));

        if (!nul || nul - at > TLS_NAME_MAX)
            return -1;
        at = nul + 1;
    }
    return count;
}

static bool listener_is_valid(const struct reader *r, const struct file_listener *l)
{
    return l->id < TLS_LISTENERS_MAX && l->counters < TLS_COUNTERS_MAX &&
           (l->fd == -1 || l->fd >= TLS_FD_FIRST) && (l->min_minor == 2 || l->min_minor == 3) &&
           l->n_client_names <= TLS_NAMES_MAX && l->n_client_fingerprints <= TLS_FINGERPRINTS_MAX &&
           range_is_valid(r, l->internal) && l->internal.length <= sizeof(struct sockaddr_un) &&
           text_is_valid(r, l->certificate, PATH_MAX) && text_is_valid(r, l->key, PATH_MAX) &&
           (l->client_ca.length == 0 || text_is_valid(r, l->client_ca, PATH_MAX)) &&
           range_is_valid(r, l->client_names) &&
           count_names(r, l->client_names) == l->n_client_names &&
           range_is_valid(r, l->client_fingerprints) &&
           l->client_fingerprints.length == l->n_client_fingerprints * TLS_FINGERPRINT_SIZE;
}

static const struct file *reader_file(const struct reader *r)
{
    return (const struct file *)(const void *)r->data;
}

/* Returns 0 with *NAMES the number of names of all listeners, or a negative errno. */
static int check_file(const struct reader *r, size_t *names)
{
    const struct file *file = reader_file(r);
    bool ids[TLS_LISTENERS_MAX] = {0};

    if (r->length < sizeof(*file) || memcmp(file->magic, FILE_MAGIC, sizeof(file->magic)) != 0)
        return -EBADMSG;
    if (file->version != FILE_VERSION)
        return -EPROTONOSUPPORT;
    if (file->size != r->length || file->n_listeners > TLS_LISTENERS_MAX ||
        r->length - sizeof(*file) < file->n_listeners * sizeof(file->listeners[0]))
        return -EBADMSG;
    for (uint32_t i = 0; i < file->n_listeners; i++) {
        const struct file_listener *l = &file->listeners[i];

        if (!listener_is_valid(r, l) || ids[l->id])
            return -EBADMSG;
        ids[l->id] = true;
        *names += l->n_client_names;
    }
    return 0;
}

static const char *reader_text(const struct reader *r, struct range range)
{
    return range.length > 0 ? (const char *)r->data + range.offset : NULL;
}

static void read_listener(struct reader *r, const struct file_listener *l,
                          struct tls_listener_settings *ret)
{
    const char *name = (const char *)r->data + l->client_names.offset;

    *ret = (struct tls_listener_settings){
        .id = l->id,
        .counters = l->counters,
        .fd = l->fd,
        .min_minor = (uint8_t)l->min_minor,
        .internal_length = l->internal.length,
        .certificate = reader_text(r, l->certificate),
        .key = reader_text(r, l->key),
        .client_ca = reader_text(r, l->client_ca),
        .client_names = r->names,
        .n_client_names = l->n_client_names,
        .client_fingerprints = (const void *)reader_text(r, l->client_fingerprints),
        .n_client_fingerprints = l->n_client_fingerprints,
    };
    memcpy(&ret->internal, r->data + l->internal.offset, l->internal.length);
    for (uint32_t i = 0; i < l->n_client_names; i++) {
        *r->names++ = name;
        name += strlen(name) + 1;
    }
}

static int read_file(struct reader *r, size_t names, struct tls_settings **ret)
{
    const size_t names_size = names * sizeof(char *);
    struct tls_settings *settings = malloc(sizeof(*settings) + names_size + r->length);
    const struct file *file;
    uint8_t *copy;

    if (!settings)
        return -ENOMEM;
    r->names = (const char **)(settings + 1);
    copy = (uint8_t *)(settings + 1) + names_size;
    memcpy(copy, r->data, r->length);
    r->data = copy;
    file = reader_file(r);
    *settings = (struct tls_settings){
        .connections_max = file->connections_max,
        .handshakes_max = file->handshakes_max,
        .handshake_timeout_ms = file->handshake_timeout_ms,
        .linger_timeout_ms = file->linger_timeout_ms,
        .refusals_per_second = file->refusals_per_second,
        .n_listeners = file->n_listeners,
    };
    for (uint32_t i = 0; i < file->n_listeners; i++)
        read_listener(r, &file->listeners[i], &settings->listeners[i]);
    *ret = settings;
    return 0;
}

int tls_settings_load(struct tls_settings **ret, int fd)
{
    struct reader reader;
    size_t names = 0;
    struct stat st;
    void *map;
    int r;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size <= 0 || (uint64_t)st.st_size > FILE_MAX)
        return -EBADMSG;
    map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    reader = (struct reader){.data = map, .length = (size_t)st.st_size};
    r = check_file(&reader, &names);
    if (r == 0)
        r = read_file(&reader, names, ret);
    (void)munmap(map, (size_t)st.st_size);
    return r;
}
