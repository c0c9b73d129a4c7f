/* SPDX-License-Identifier: MIT */
#include "common/escape.h"

#include <stdbool.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

#define BUFFER_SIZE 1024 /* at least MB_LEN_MAX and ESCAPE_LENGTH */

/* iswprint(3) is true for bidirectional control characters. */
static bool escape_is_printable(wchar_t c)
{
    return iswprint((wint_t)c) && !is_bidi_control((uint32_t)c);
}

/* Returns the length of the printable character at TEXT, or 0 if there is none. */
static size_t escape_character(const char *text, size_t length)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t n;

    if ((unsigned char)*text >= 0x20 && (unsigned char)*text < 0x7f)
        return 1;
    n = mbrtowc(&c, text, length, &state);
    if (n == 0 || n > length) /* NUL; (size_t)-1, (size_t)-2: invalid or incomplete */
        return 0;
    return escape_is_printable(c) ? n : 0;
}

/* Escapes bytes from *DATA into RET until SIZE is reached, and advances *DATA and *LENGTH.
 * KEEP_TAB: TAB is not escaped. Returns the number of bytes written. */
static size_t escape_part(char *ret, size_t size, const char **data, size_t *length, bool keep_tab)
{
    char *out = ret;

    while (*length > 0) {
        size_t character = keep_tab && **data == '\t' ? 1 : escape_character(*data, *length);
        size_t n = character > 0 ? character : ESCAPE_LENGTH, taken = character > 0 ? character : 1;

        if ((size_t)(out - ret) + n > size)
            break;
        if (character > 0)
            memcpy(out, *data, n);
        else
            put_escape(out, (uint8_t) * *data);
        out += n;
        *data += taken;
        *length -= taken;
    }
    return (size_t)(out - ret);
}

size_t escape_copy(char *ret, size_t size, const void *data, size_t length)
{
    const char *text = data;
    size_t n = escape_part(ret, size - 1, &text, &length, false);

    ret[n] = '\0';
    return n;
}

void escape_write(FILE *stream, const void *data, size_t length)
{
    const char *text = data;
    char part[BUFFER_SIZE];

    while (length > 0)
        fwrite(part, 1, escape_part(part, sizeof(part), &text, &length, true), stream);
}
