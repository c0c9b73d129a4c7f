/* SPDX-License-Identifier: MIT */
#include "netd/config/preprocess.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* As much of a name or number as a message shows. */
#define SHOWN_MAX 40

struct word {
    const char *start;
    size_t length;
};

/* One file that is being scanned. */
struct input {
    const char *file;
    const char *start;
    const char *p; /* NUL-terminated */
    unsigned line;
};

struct setting {
    struct word name;
    unsigned group;
    unsigned line; /* of the text */
};

/*
 * The tokens are those of libconfig. Its grammar is not repeated here: of what it would refuse
 * anyway, anything may be passed on.
 */
struct scan {
    struct config_text *text;
    char *error;
    struct word directory; /* of the main file, with the slash */
    size_t bytes_left;     /* that may still be read */
    char previous;         /* last token: itself, '"' for a string, 'a' a name, '0' a number */
    struct word name;      /* last name */
    char nest[CONFIG_NESTING_MAX]; /* open brackets; [0] stands for the top level */
    unsigned groups[CONFIG_NESTING_MAX];
    unsigned depth;
    unsigned n_groups;
    unsigned n_values;
    struct setting settings[CONFIG_VALUES_MAX];
    unsigned n_settings;
};

static int scan_file(struct scan *s, const char *path, const struct input *from);

int config_fail(char error[static CONFIG_ERROR_MAX], const char *format, ...)
{
    char line[CONFIG_ERROR_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    printable_copy(error, CONFIG_ERROR_MAX, line);
    return -EINVAL;
}

void config_text_free(struct config_text *t)
{
    for (size_t i = 0; i < t->n_files; i++)
        free(t->files[i]);
    t->n_files = 0;
    free_pointer(&t->text);
}

const struct config_segment *config_text_locate(const struct config_text *t, unsigned line)
{
    size_t i = t->n_segments - 1;

    while (i > 0 && t->segments[i].line > line)
        i--;
    return &t->segments[i];
}

static void add_segment(struct config_text *t, const struct input *in)
{
    t->segments[t->n_segments++] =
        (struct config_segment){.line = t->line, .file = in->file, .file_line = in->line};
}

/*
 * Reads a regular file of at most MAX bytes, to be freed, with a NUL behind the last byte. Returns
 * its length, -EFBIG, -ENOTSUP when it is not a regular file, or another negative errno.
 */
static ssize_t read_file(const char *path, size_t max, char **ret)
{
    CLEANUP(free_pointer) char *data = NULL;
    CLEANUP(close_fd) int fd = -1;
    size_t length = 0;
    struct stat st;
    ssize_t n;

    /* Non-blocking, or a FIFO would hold us until somebody writes to it. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
    data = malloc(max + 1);
    if (!data)
        return -ENOMEM;
    /* Not by st_size: files of /proc say 0. One byte more than allowed shows what is too long. */
    while ((n = read(fd, data + length, max + 1 - length)) != 0) {
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            length += (size_t)n;
        if (length > max)
            return -EFBIG;
    }
    data[length] = '\0';
    *ret = data;
    data = NULL;
    return (ssize_t)length;
}

static void put(struct scan *s, char c)
{
    struct config_text *t = s->text;

    t->text[t->length++] = c;
    if (c == '\n')
        t->line++;
}

/* Takes LENGTH bytes over into the text and returns where they stand there. */
static struct word copy(struct scan *s, struct input *in, size_t length)
{
    struct word word = {.start = s->text->text + s->text->length, .length = length};

    for (const char *end = in->p + length; in->p < end; in->p++) {
        put(s, *in->p);
        if (*in->p == '\n')
            in->line++;
    }
    return word;
}

static int fail_here(struct scan *s, const struct input *in, const char *message)
{
    return config_fail(s->error, "%s:%u: %s", in->file, in->line, message);
}

/* Complains about the NUMBER that belongs to the name seen last. */
static int fail_number(struct scan *s, const struct input *in, struct word number,
                       const char *message)
{
    return config_fail(s->error, "%s:%u: %.*s%s%.*s%s %s", in->file, in->line,
                       (int)min_size(s->name.length, SHOWN_MAX), s->name.start,
                       s->name.length > 0 ? ": " : "", (int)min_size(number.length, SHOWN_MAX),
                       number.start, number.length > SHOWN_MAX ? "..." : "", message);
}

static int skip_block_comment(struct scan *s, struct input *in)
{
    const char *end = strstr(in->p + 2, "*/");

    if (!end)
        return fail_here(s, in, "the comment has no end");
    put(s, ' ');
    for (; in->p < end; in->p++)
        if (*in->p == '\n') {
            put(s, '\n');
            in->line++;
        }
    in->p += 2;
    return 0;
}

/* libconfig 1.5 leaks a string that its grammar does not want. */
static bool string_may_stand_here(const struct scan *s)
{
    char around = s->nest[s->depth];

    if (s->previous == '=' || s->previous == '"')
        return true;
    return (around == '[' || around == '(') && (s->previous == around || s->previous == ',');
}

static int scan_string(struct scan *s, struct input *in)
{
    const char *p = in->p + 1;

    if (!string_may_stand_here(s))
        return fail_here(s, in, "a string is not expected here");
    for (; *p != '"' && *p != '\0'; p++) {
        if (*p != '\\')
            continue;
        p++;
        if (*p == '\0')
            break;
        /* 1.5 forgets it, 1.7 ends the string there. */
        if ((*p == 'x' || *p == 'X') && p[1] == '0' && p[2] == '0')
            return fail_here(s, in, "the string has a NUL byte");
    }
    if (*p == '\0')
        return fail_here(s, in, "the string has no end");
    copy(s, in, (size_t)(p + 1 - in->p));
    s->previous = '"';
    return 0;
}

/* Like libconfig: an @include has nothing but blanks before it on its line. */
static bool begins_line(const struct input *in)
{
    const char *p = in->p;

    while (p > in->start && (p[-1] == ' ' || p[-1] == '\t'))
        p--;
    return p == in->start || p[-1] == '\n';
}

/* Puts the name that stands in quotes at P behind the directory in PATH, and returns its end. */
static const char *read_include_path(const char *p, char path[static PATH_MAX], size_t length)
{
    for (p++; *p != '"'; p++) {
        if (*p == '\\')
            p++;
        if (*p == '\0' || *p == '\n' || length + 1 >= PATH_MAX)
            return NULL;
        path[length++] = *p;
    }
    path[length] = '\0';
    return p + 1;
}

static int scan_include(struct scan *s, struct input *in)
{
    static const char keyword[] = "@include";
    const char *name = in->p;
    size_t blanks = 0;
    size_t prefix;
    char path[PATH_MAX];
    int r;

    if (strncmp(name, keyword, strlen(keyword)) == 0) {
        name += strlen(keyword);
        blanks = strspn(name, " \t");
        name += blanks;
    }
    if (blanks == 0 || *name != '"' || !begins_line(in))
        return fail_here(s, in, "syntax error (a line may begin with @include \"FILE\")");

    if (s->text->n_files == CONFIG_FILES_MAX)
        return fail_here(s, in, "@include: too many files; do they include each other?");

    prefix = name[1] == '/' ? 0 : s->directory.length;
    memcpy(path, s->directory.start, prefix);
    in->p = read_include_path(name, path, prefix);
    if (!in->p)
        return fail_here(s, in, "@include: the name has no end, or is too long");
    put(s, '\n');
    r = scan_file(s, path, in);
    put(s, '\n');
    add_segment(s->text, in);
    return r;
}

static void scan_name(struct scan *s, struct input *in)
{
    const char *p = in->p;

    while (isalnum((unsigned char)*p) || *p == '-' || *p == '_' || *p == '*')
        p++;
    s->name = copy(s, in, (size_t)(p - in->p));
    s->previous = 'a';
}

/*
 * Checks the integer of LENGTH bytes whose DIGITS (the sign aside) are of BASE, and takes it over.
 * Without the suffix L, 1.5 keeps the low 32 bits of a decimal number; of a hexadecimal one, 1.7
 * does too.
 */
static int scan_integer(struct scan *s, struct input *in, const char *digits, int base,
                        size_t length)
{
    struct word number = {.start = in->p, .length = length};
    uint64_t value;

    if (base == 10 && digits[0] == '0' && isdigit((unsigned char)digits[1]))
        return fail_number(s, in, number, "has a leading zero");
    errno = 0;
    value = strtoull(digits, NULL, base);
    if (errno == ERANGE || value > INT64_MAX)
        return fail_number(s, in, number, "is too large");
    copy(s, in, length);
    if (value > INT32_MAX && in->p[-1] != 'L') {
        put(s, 'L');
        if (s->text->wide_line == 0)
            s->text->wide_line = s->text->line;
    }
    return 0;
}

/* Returns the end of the exponent at P, or P when there is none. */
static const char *skip_exponent(const char *p)
{
    const char *digits = p + 1;

    if (*p != 'e' && *p != 'E')
        return p;
    if (*digits == '+' || *digits == '-')
        digits++;
    if (!isdigit((unsigned char)*digits))
        return p;
    return digits + strspn(digits, "0123456789");
}

static int scan_number(struct scan *s, struct input *in)
{
    const char *digits = in->p + (*in->p == '+' || *in->p == '-');
    const char *end = digits + strspn(digits, "0123456789");
    const char *fraction = *end == '.' ? end + 1 + strspn(end + 1, "0123456789") : end;
    int base = 10;

    fraction = skip_exponent(fraction);
    s->previous = '0';
    if (fraction > end || end == digits) {
        copy(s, in, (size_t)((fraction > in->p ? fraction : in->p + 1) - in->p));
        return 0;
    }
    if (in->p[0] == '0' && (in->p[1] == 'x' || in->p[1] == 'X') &&
        isxdigit((unsigned char)in->p[2])) {
        base = 16;
        end = in->p + 2;
        while (isxdigit((unsigned char)*end))
            end++;
    }
    for (int i = 0; i < 2 && *end == 'L'; i++)
        end++;
    return scan_integer(s, in, digits, base, (size_t)(end - in->p));
}

/* libconfig finds duplicates too, but does not say of what. */
static int add_setting(struct scan *s, const struct input *in)
{
    struct setting new = {s->name, s->groups[s->depth], s->text->line};

    for (unsigned i = 0; i < s->n_settings; i++) {
        const struct setting *old = &s->settings[i];
        const struct config_segment *first = config_text_locate(s->text, old->line);

        if (old->group == new.group &&
            old->name.length ==
                new.name.length &&memcmp(old->name.start, new.name.start, new.name.length) == 0)
            return config_fail(s->error, "%s:%u: %.*s: set before, at %s:%u", in->file, in->line,
                               (int)min_size(new.name.length, SHOWN_MAX), new.name.start,
                               first->file, first->file_line + old->line - first->line);
    }
    s->settings[s->n_settings++] = new;
    return 0;
}

static int open_bracket(struct scan *s, const struct input *in)
{
    if (s->depth + 1 == CONFIG_NESTING_MAX)
        return fail_here(s, in, "nested too deep");
    s->depth++;
    s->nest[s->depth] = *in->p;
    s->groups[s->depth] = ++s->n_groups;
    return 0;
}

static int scan_punctuation(struct scan *s, struct input *in)
{
    char c = *in->p == ':' ? '=' : *in->p;
    int r = 0;

    if ((c == '=' || c == ',') && s->n_values++ == CONFIG_VALUES_MAX)
        r = fail_here(s, in, "too many values");
    else if (c == '=' && s->previous == 'a')
        r = add_setting(s, in);
    else if (c == '{' || c == '[' || c == '(')
        r = open_bracket(s, in);
    else if ((c == '}' || c == ']' || c == ')') && s->depth > 0)
        s->depth--;
    if (r < 0)
        return r;
    copy(s, in, 1);
    s->previous = c;
    return 0;
}

static int scan_token(struct scan *s, struct input *in)
{
    const char *p = in->p;

    if (strchr(" \t\r\n\f", *p)) {
        copy(s, in, 1);
        return 0;
    }
    if (*p == '#' || (p[0] == '/' && p[1] == '/')) {
        in->p += strcspn(p, "\n");
        return 0;
    }
    if (p[0] == '/' && p[1] == '*')
        return skip_block_comment(s, in);
    if (*p == '"')
        return scan_string(s, in);
    if (*p == '@')
        return scan_include(s, in);
    if (isdigit((unsigned char)*p) || *p == '+' || *p == '-' || *p == '.')
        return scan_number(s, in);
    if (isalpha((unsigned char)*p) || *p == '*') {
        scan_name(s, in);
        return 0;
    }
    return scan_punctuation(s, in);
}

static int fail_nul(struct scan *s, struct input *in)
{
    for (; *in->p != '\0'; in->p++)
        if (*in->p == '\n')
            in->line++;
    return fail_here(s, in, "NUL byte");
}

static int scan_input(struct scan *s, struct input *in, size_t length)
{
    if (strncmp(in->p, "\xef\xbb\xbf", 3) == 0)
        return fail_here(s, in, "begins with a byte order mark");
    if (strlen(in->p) < length)
        return fail_nul(s, in);
    while (*in->p != '\0') {
        int r = scan_token(s, in);

        if (r < 0)
            return r;
    }
    return 0;
}

static int fail_file(struct scan *s, const char *path, const struct input *from, int error)
{
    const char *reason = strerror(-error);

    if (error == -ENOMEM)
        return error;
    if (error == -ENOTSUP)
        reason = "not a regular file";
    if (error == -EFBIG)
        reason = "larger than 1 MiB, with its includes";
    if (from)
        return config_fail(s->error, "%s:%u: @include: %s: %s", from->file, from->line, path,
                           reason);
    config_fail(s->error, "%s: %s", path, reason);
    return error == -ENOENT ? error : -EINVAL;
}

/* Reads the file PATH into the text. FROM is the place that includes it, NULL for the main file. */
static int scan_file(struct scan *s, const char *path, const struct input *from)
{
    CLEANUP(free_pointer) char *data = NULL;
    struct config_text *t = s->text;
    struct input in = {.line = 1};
    ssize_t length;
    char *file;

    length = read_file(path, s->bytes_left, &data);
    if (length < 0)
        return fail_file(s, path, from, (int)length);
    s->bytes_left -= (size_t)length;
    file = strdup(path);
    if (!file)
        return -ENOMEM;
    t->files[t->n_files++] = file;

    in.file = file;
    in.start = in.p = data;
    add_segment(t, &in);
    return scan_input(s, &in, (size_t)length);
}

int config_text_load(struct config_text *ret, const char *file, char error[static CONFIG_ERROR_MAX])
{
    CLEANUP(config_text_free) struct config_text text = {.line = 1};
    const char *slash = strrchr(file, '/');
    struct scan s = {
        .text = &text,
        .error = error,
        .directory = {.start = file, .length = slash ? (size_t)(slash + 1 - file) : 0},
        .bytes_left = CONFIG_BYTES_MAX,
        .name = {.start = ""},
    };
    int r;

    /* Nothing becomes more than twice as long in the text, whatever is added. */
    text.text = malloc(2 * CONFIG_BYTES_MAX + 1);
    if (!text.text)
        return -ENOMEM;
    r = scan_file(&s, file, NULL);
    if (r < 0)
        return r;
    text.text[text.length] = '\0';
    *ret = text;
    text = (struct config_text){0};
    return 0;
}
