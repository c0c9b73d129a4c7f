/* SPDX-License-Identifier: MIT */
#include "netd/config/preprocess.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NAME_BYTES "*-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* "FILE:LINE: @include: " */
#define WHERE_MAX (PATH_MAX + 32)

/* The scan of one file. */
struct preprocess {
    struct preprocess_text *text; /* of all files */
    size_t bytes_left;            /* that may still be read, in all files */
    unsigned settings;            /* seen so far, in all files */
    char *error;
    const char *file, *start;
    const char *copied; /* end of what is in the text already */
    const char *p;      /* current position; NUL-terminated */
    bool comma;         /* the last token was one */
};

static int preprocess_file(struct preprocess *s, const char *path, const char *where);

void preprocess_free(struct preprocess_text *t)
{
    for (size_t i = 0; i < t->n_files; i++)
        free(t->files[i]);
    free(t->text);
    *t = (struct preprocess_text){0};
}

const char *preprocess_locate(const struct preprocess_text *t, unsigned line, unsigned *ret)
{
    const struct preprocess_segment *s = &t->segments[t->n_segments - 1];

    while (s > t->segments && s->line > line)
        s--;
    *ret = line - s->line + s->file_line;
    return s->file;
}

static unsigned preprocess_line(const struct preprocess *s, const char *at)
{
    unsigned line = 1;

    for (const char *p = s->start; p < at; p++)
        line += *p == '\n';
    return line;
}

/* Reports an error in the LENGTH bytes at the current position. */
static int preprocess_fail(const struct preprocess *s, ptrdiff_t length, const char *message)
{
    return config_fail(s->error, "%s:%u: %.*s%s", s->file, preprocess_line(s, s->p),
                       length > 40 ? 40 : (int)length, s->p, message);
}

/*
 * Reads at most MAX bytes of PATH, to be freed, with a NUL behind the last one. Returns their
 * number, -EFBIG, -ENOTSUP when it is neither a regular file nor a character device (/dev/null is
 * an empty file), or another negative errno.
 */
static ssize_t preprocess_read(const char *path, size_t max, char **ret)
{
    CLEANUP(free_pointer) char *data = NULL;
    CLEANUP(close_fd) int fd = -1;
    size_t length = 0;
    struct stat st;
    ssize_t n;

    /* Opening a FIFO or reading a terminal would block. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
    data = malloc(max + 1);
    if (!data)
        return -ENOMEM;
    /* st_size is 0 for files in /proc. One byte more than allowed shows that a file is too long. */
    while ((n = read(fd, data + length, max + 1 - length)) != 0) {
        if (n < 0)
            return -errno;
        length += (size_t)n;
        if (length > max)
            return -EFBIG;
    }
    data[length] = '\0';
    *ret = data;
    data = NULL;
    return (ssize_t)length;
}

/* Copies everything before the current position to the text. */
static void preprocess_append(struct preprocess *s)
{
    struct preprocess_text *t = s->text;
    unsigned line = preprocess_line(s, s->copied);
    size_t length = (size_t)(s->p - s->copied);

    t->segments[t->n_segments++] = (struct preprocess_segment){t->line, s->file, line};
    memcpy(t->text + t->length, s->copied, length);
    t->length += length;
    t->text[t->length++] = '\n';
    t->line += preprocess_line(s, s->p) - line + 1;
}

/* Replaces the @include at the current position by the file that it names. */
static int preprocess_include(struct preprocess *s)
{
    static const char keyword[] = "@include";
    const char *name = s->p, *main_file = s->text->files[0], *slash = strrchr(main_file, '/');
    char path[PATH_MAX], where[WHERE_MAX];
    int n, r, directory = slash ? (int)(slash + 1 - main_file) : 0;

    if (strncmp(name, keyword, strlen(keyword)) == 0)
        name += strlen(keyword) + strspn(name + strlen(keyword), " \t");
    if (*name++ != '"')
        return preprocess_fail(s, 0, "syntax error, expected @include \"FILE\"");
    n = (int)min_size(strcspn(name, "\"\n"), PATH_MAX);
    r = snprintf(path, sizeof(path), "%.*s%.*s", *name == '/' ? 0 : directory, main_file, n, name);
    if (r >= PATH_MAX || name[n] != '"')
        return preprocess_fail(s, 0, "@include: the name has no end, or is too long");
    if (s->text->n_files == PREPROCESS_FILES_MAX)
        return preprocess_fail(s, 0, "@include: too many files; do they include each other?");
    preprocess_append(s);
    snprintf(where, sizeof(where), "%s:%u: @include: ", s->file, preprocess_line(s, s->p));
    s->p = s->copied = name + n + 1;
    r = preprocess_file(s, path, where);
    return r == -ENOENT ? -EINVAL : r;
}

/* Without the suffix L, libconfig 1.5 truncates an integer to 32 bits, and 1.7 a hexadecimal one. A
 * leading zero means octal in 1.7, but not in 1.5. */
static int preprocess_number(struct preprocess *s)
{
    const char *digits = s->p + !isdigit((unsigned char)*s->p);
    char *end, *float_end;
    long long value;

    (void)strtod(s->p, &float_end);
    errno = 0;
    value = strtoll(s->p, &end, 0);
    if (digits[0] == '0' && isdigit((unsigned char)digits[1]))
        return preprocess_fail(s, float_end - s->p, " has a leading zero");
    if (float_end <= end && errno == ERANGE)
        return preprocess_fail(s, end - s->p, " is out of range");
    if (float_end <= end && *end != 'L' && value != (int32_t)value)
        return preprocess_fail(s, end - s->p, " is out of range without the suffix L");
    s->p = float_end;
    return 0;
}

/* Returns the end of the string or comment that begins at P, P where none does, or NULL. */
static const char *preprocess_skip(const char *p)
{
    const char *end = p;

    if (p[0] == '#' || (p[0] == '/' && p[1] == '/'))
        return strchrnul(p, '\n');
    if (p[0] == '/' && p[1] == '*')
        return (end = strstr(p + 2, "*/")) ? end + 2 : NULL;
    if (*p != '"')
        return p;
    for (end++; *end != '"'; end++)
        if (*end == '\0' || (*end == '\\' && *++end == '\0'))
            return NULL;
    return end + 1;
}

/* Returns the end of the word, string, comment or character at P. */
static const char *preprocess_next(const char *p)
{
    const char *end = preprocess_skip(p);

    if (end != p)
        return end;
    return p + 1 + (isalpha((unsigned char)*p) ? strspn(p + 1, NAME_BYTES) : 0);
}

unsigned preprocess_find_element(const struct preprocess_text *t, unsigned line, const char *name,
                                 unsigned index)
{
    const char *p = t->text, *start;
    size_t length = strlen(name);

    for (unsigned i = 1; i < line; i++)
        p = strchr(p, '\n') + 1;
    start = p;
    while (*p && (strncmp(p, name, length) != 0 || preprocess_next(p) != p + length))
        p = preprocess_next(p);
    while (*p && *p != '(' && *p != '[')
        p = preprocess_next(p);
    for (; *p && index > 0; p = preprocess_next(p))
        index -= *preprocess_next(p) == ',';
    p += *p != '\0';
    while (isspace((unsigned char)*p) || (*p != '"' && preprocess_skip(p) != p))
        p = isspace((unsigned char)*p) ? p + 1 : preprocess_skip(p);
    for (; start < p; start++)
        line += *start == '\n';
    return line;
}

/* Tells numbers and includes from names, strings and comments. libconfig knows the rest of the
 * grammar. */
static int preprocess_token(struct preprocess *s)
{
    const char *p = s->p, *end = preprocess_skip(p);
    unsigned char c = (unsigned char)p[0];

    if (!end)
        return preprocess_fail(s, 0, c == '"' ? "the string has no end" : "the comment has no end");
    if (s->comma && (c == ')' || c == ']'))
        return preprocess_fail(s, 0, "a comma before the end of the list");
    if (!isspace(c) && (end == p || c == '"')) /* nor a comment */
        s->comma = c == ',';
    if (c == '@')
        return preprocess_include(s);
    if (isdigit(c) || ((c == '+' || c == '-') && isdigit((unsigned char)p[1])))
        return preprocess_number(s);
    if ((c == '=' || c == ':') && s->settings++ == PREPROCESS_SETTINGS_MAX)
        return preprocess_fail(s, 0, "too many settings");
    s->p = preprocess_next(p);
    return 0;
}

/* Appends the file PATH to the text. WHERE, the place of the @include, is the beginning of an error
 * message. */
static int preprocess_file(struct preprocess *s, const char *path, const char *where)
{
    CLEANUP(free_pointer) char *data = NULL;
    struct preprocess_text *t = s->text;
    struct preprocess in = *s;
    ssize_t length = preprocess_read(path, s->bytes_left, &data);
    int r = 0;

    if (length >= 0 && (!data || !(t->files[t->n_files] = strdup(path))))
        length = -ENOMEM;
    if (length < 0) {
        config_fail(s->error, "%s%s: %s", where, path,
                    length == -ENOTSUP ? "not a regular file"
                    : length == -EFBIG ? "larger than 1 MiB, with its includes"
                                       : strerror((int)-length));
        return length == -ENOMEM || length == -ENOENT ? (int)length : -EINVAL;
    }
    in.bytes_left -= (size_t)length;
    in.file = t->files[t->n_files++];
    in.start = in.copied = in.p = data;
    if (strlen(data) < (size_t)length) {
        in.p += strlen(data);
        return preprocess_fail(&in, 0, "NUL byte");
    }
    while (r == 0 && *in.p != '\0')
        r = preprocess_token(&in);
    if (r == 0)
        preprocess_append(&in);
    s->bytes_left = in.bytes_left;
    s->settings = in.settings;
    return r;
}

int preprocess_load(struct preprocess_text *ret, const char *file,
                    char error[static CONFIG_ERROR_MAX])
{
    CLEANUP(preprocess_free) struct preprocess_text text = {.line = 1};
    struct preprocess s = {.text = &text, .bytes_left = PREPROCESS_BYTES_MAX, .error = error};
    int r;

    /* Every segment adds the end of a line. */
    text.text = malloc(PREPROCESS_BYTES_MAX + PREPROCESS_SEGMENTS_MAX + 1);
    if (!text.text)
        return -ENOMEM;
    r = preprocess_file(&s, file, "");
    if (r < 0)
        return r;
    text.text[text.length] = '\0';
    text.line--; /* an end was added to the last one */
    *ret = text;
    text = (struct preprocess_text){0};
    return 0;
}
