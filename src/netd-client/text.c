/* SPDX-License-Identifier: MIT */
#include "netd-client/text.h"

#include "common/util.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

/* Characters that turn a line's reading direction around pass for printable. */
static bool text_is_safe(wchar_t c)
{
    return c == L'\t' || (iswprint((wint_t)c) && !is_bidi_control((uint32_t)c));
}

/* Length of the safe character at TEXT, or 0. */
static size_t text_character(const char *text, size_t length)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t n;

    if ((unsigned char)*text >= 0x20 && (unsigned char)*text < 0x7f)
        return 1;
    n = mbrtowc(&c, text, length, &state);
    if (n == 0 || n > length) /* NUL; or (size_t)-1, (size_t)-2: not a character */
        return 0;
    return text_is_safe(c) ? n : 0;
}

/* How many of the bytes at TEXT, from the start, are safe as they are. */
static size_t text_safe_length(const char *text, size_t length)
{
    size_t i = 0, n;

    while (i < length && (n = text_character(text + i, length - i)) > 0)
        i += n;
    return i;
}

size_t text_escape(char *ret, const void *data, size_t length)
{
    const char *text = data;
    char *out = ret;

    for (size_t i = 0; i < length;) {
        size_t n = text_safe_length(text + i, length - i);

        memcpy(out, text + i, n);
        out += n;
        i += n;
        if (i < length) {
            out = put_escape(out, (uint8_t)text[i++]);
        }
    }
    *out = '\0';
    return (size_t)(out - ret);
}

void text_write(FILE *stream, const void *data, size_t length)
{
    const char *text = data;
    char hex[TEXT_GROWTH];

    for (size_t i = 0; i < length;) {
        size_t n = text_safe_length(text + i, length - i);

        fwrite(text + i, 1, n, stream);
        i += n;
        if (i < length) {
            put_escape(hex, (uint8_t)text[i++]);
            fwrite(hex, 1, sizeof(hex), stream);
        }
    }
}
