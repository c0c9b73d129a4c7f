/* SPDX-License-Identifier: MIT */
#include "netd/protocol/syslog.h"

#include "common/util.h"

#include "random.h"
#include "syslog-check.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define CORPUS      "tests/syslog.corpus"
#define MESSAGE_MAX 1024

/* A message of the corpus, and the lines after it. */
struct message {
    uint8_t bytes[MESSAGE_MAX];
    size_t length;
    char expected[2 * MESSAGE_MAX];
};

static struct message *corpus;
static size_t corpus_count;

static void corpus_add_bytes(struct message *m, const char *text)
{
    while (*text) {
        char hex[3] = {0};

        assert_true(m->length < MESSAGE_MAX);
        if (text[0] != '\\') {
            m->bytes[m->length++] = (uint8_t)*text++;
        } else if (text[1] == 'x') {
            memcpy(hex, text + 2, 2);
            m->bytes[m->length++] = (uint8_t)strtoul(hex, NULL, 16);
            text += 4;
        } else {
            m->bytes[m->length++] = (uint8_t)text[1];
            text += 2;
        }
    }
}

static int corpus_read(void **state)
{
    char line[4 * MESSAGE_MAX];
    FILE *f = fopen(CORPUS, "re");

    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        char *blank = strchr(line, ' ');

        if (*line == '#' || *line == '\n')
            continue;
        assert_non_null(blank);
        if (blank == line) {
            assert_true(corpus_count > 0);
            strcat(corpus[corpus_count - 1].expected, line);
            continue;
        }
        corpus = realloc(corpus, (corpus_count + 1) * sizeof(*corpus));
        assert_non_null(corpus);
        memset(&corpus[corpus_count], 0, sizeof(*corpus));
        line[strcspn(line, "\n")] = '\0';
        corpus_add_bytes(&corpus[corpus_count++], blank + 1);
    }
    fclose(f);
    return 0;
}

static int corpus_free(void **state)
{
    (void)state;
    free(corpus);
    return 0;
}

/* Parses a copy of the bytes that ends where its memory ends, so that sanitizers see any access
 * beyond. Returns the copy, to be freed. */
static uint8_t *parse_copy(struct syslog *ret, const uint8_t *bytes, size_t length, bool trust)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    memcpy(copy, bytes, length);
    syslog_parse(ret, copy, length, trust);
    return copy;
}

static void check_sound(const uint8_t *bytes, size_t length)
{
    struct syslog s;
    uint8_t *copy = parse_copy(&s, bytes, length, false);

    if (!syslog_is_sound(&s, copy, length)) {
        fwrite(bytes, 1, length, stdout);
        fail();
    }
    free(copy);
}

/* --- The corpus --- */

static char *put_value(char *at, const char *name, const struct syslog_text *text)
{
    if (!text->data)
        return at;
    at += sprintf(at, "    %s=", name);
    for (size_t i = 0; i < text->length; i++) {
        uint8_t c = text->data[i];

        if (c == '\\')
            at += sprintf(at, "\\\\");
        else if (c < ' ' || c >= 0x7f || (c == ' ' && i + 1 == text->length))
            at = put_escape(at, c);
        else
            *at++ = (char)c;
    }
    return at + sprintf(at, "\n");
}

/* In the form of the corpus. */
static void describe(const struct syslog *s, char ret[static 5 * MESSAGE_MAX])
{
    static const char *const formats[] = SYSLOG_FORMAT_NAMES;
    static const char *const names[SYSLOG_TEXTS] = {"time",  "host", "tag",    "pid",
                                                    "msgid", "data", "message"};
    const struct syslog_text *texts[SYSLOG_TEXTS];

    syslog_texts(&s->fields, texts);
    ret += sprintf(ret, "    %s %d.%d%s%s\n", formats[s->fields.format], s->fields.facility,
                   s->fields.severity, s->exact ? " exact" : "", s->clean ? "" : " unclean");
    for (size_t i = 0; i < SYSLOG_TEXTS; i++)
        ret = put_value(ret, names[i], texts[i]);
}

static void messages_of_the_corpus(void **state)
{
    char said[5 * MESSAGE_MAX];

    (void)state;
    for (size_t i = 0; i < corpus_count; i++) {
        const struct message *m = &corpus[i];
        struct syslog s;

        syslog_parse(&s, m->bytes, m->length, false);
        describe(&s, said);
        if (strcmp(said, m->expected) != 0)
            printf("%.*s\n%s", (int)m->length, (const char *)m->bytes, said);
        assert_string_equal(said, m->expected);
        check_sound(m->bytes, m->length);
    }
    assert_true(corpus_count > 350);
}

/* --- Single rules --- */

static void severity_that_syncs_the_journal_is_not_the_clients(void **state)
{
    (void)state;
    for (int pri = 0; pri <= 191; pri++) {
        char text[16];
        int length = sprintf(text, "<%d>a: b", pri);
        struct syslog s;

        syslog_parse(&s, (const uint8_t *)text, (size_t)length, false);
        assert_int_equal(s.fields.facility, pri / 8);
        assert_int_equal(s.fields.severity, pri % 8);
        assert_int_equal(s.priority, pri % 8 < 3 ? 3 : pri % 8);
        syslog_parse(&s, (const uint8_t *)text, (size_t)length, true);
        assert_int_equal(s.fields.severity, pri % 8);
        assert_int_equal(s.priority, pri % 8);
    }
}

static void empty_record_is_plain(void **state)
{
    struct syslog s;

    (void)state;
    syslog_parse(&s, (const uint8_t *)"", 0, false);
    assert_int_equal(s.fields.format, SYSLOG_PLAIN);
    assert_int_equal(s.fields.message.length, 0);
    assert_non_null(s.fields.message.data);
    assert_true(s.exact);
    check_sound((const uint8_t *)"", 0);
}

/* No field has a limit of its own. */
static void long_fields(void **state)
{
    static uint8_t record[131072];
    struct syslog s;

    (void)state;
    memset(record, 'a', sizeof(record));
    memcpy(record, "<13>", 4);
    check_sound(record, sizeof(record));
    memcpy(record + sizeof(record) - 3, ": x", 3);
    syslog_parse(&s, record, sizeof(record), false);
    assert_int_equal(s.fields.identifier.length, sizeof(record) - 7);
    check_sound(record, sizeof(record));
    memset(record + 4, '[', sizeof(record) - 7);
    check_sound(record, sizeof(record));
    memset(record + 4, ':', sizeof(record) - 7);
    check_sound(record, sizeof(record));
    memset(record + 4, ' ', sizeof(record) - 7);
    check_sound(record, sizeof(record));
    memcpy(record, "<13>1 - - - - - [", 17);
    check_sound(record, sizeof(record));
}

/* --- Properties --- */

/* A value of 1 to 12 characters of CHARACTERS. */
static struct syslog_text random_text(char buffer[static 16], const char *characters)
{
    size_t length = 1 + random_below(12), count = strlen(characters);

    for (size_t i = 0; i < length; i++)
        buffer[i] = characters[random_below(count)];
    return (struct syslog_text){.data = (const uint8_t *)buffer, .length = length};
}

static bool text_equal(const struct syslog_text *a, const struct syslog_text *b)
{
    return !a->data == !b->data && a->length == b->length &&
           (!a->data || memcmp(a->data, b->data, a->length) == 0);
}

#define NAME_CHARACTERS "abcXYZ019._-"
static const char *const local_times[] = {"Nov 25 09:35:00 ", "Jan  1 00:00:00 "};
static const char *const iso_times[] = {"2026-11-25T09:35:00Z", "2026-11-25T09:35:00.123456-07:00"};

static struct syslog_text random_choice(const char *const choices[2])
{
    const char *choice = choices[random_below(2)];

    return (struct syslog_text){.data = (const uint8_t *)choice, .length = strlen(choice)};
}

/* The record made of any well-formed fields has these fields. */
static void fields_survive_a_record(void **state)
{
    (void)state;
    for (int i = random_rounds(20000); i > 0; i--) {
        const struct syslog_text *wanted[SYSLOG_TEXTS], *found[SYSLOG_TEXTS];
        char host[16] = "", tag[16], pid[16], msgid[16], data[16], message[16];
        uint8_t record[512];
        struct syslog_fields f = {
            .format = random_below(2) ? SYSLOG_RFC5424 : SYSLOG_RFC3164,
            .facility = (int)random_below(24),
            .severity = (int)random_below(8),
            .message = random_text(message, NAME_CHARACTERS),
        };
        bool is_5424 = f.format == SYSLOG_RFC5424, time = random_below(2);
        struct syslog s;
        size_t length;

        if (time)
            f.timestamp = random_choice(is_5424 || random_below(2) ? iso_times : local_times);
        if (is_5424 ? random_below(2) : time && random_below(2)) {
            f.hostname = random_text(host, NAME_CHARACTERS);
            host[0] = 'h'; /* letters and digits only */
        }
        if (!is_5424 || random_below(2)) {
            f.identifier = random_text(tag, NAME_CHARACTERS ":/%");
            tag[0] = 't';
        }
        if (random_below(2))
            f.pid = random_text(pid, "0123456789");
        if (is_5424 && random_below(2)) {
            f.msgid = random_text(msgid, NAME_CHARACTERS);
            msgid[0] = 'm'; /* not "-", which is none */
        }
        if (is_5424 && random_below(2)) {
            f.structured_data = random_text(data, NAME_CHARACTERS " ");
            data[0] = '[';
            data[f.structured_data.length] = ']';
            f.structured_data.length++;
        }
        length = syslog_rebuild(record, sizeof(record), &f);
        syslog_parse(&s, record, length, false);
        assert_true(s.exact && s.clean);
        assert_int_equal(s.fields.format, f.format);
        assert_int_equal(s.fields.facility, f.facility);
        assert_int_equal(s.fields.severity, f.severity);
        syslog_texts(&f, wanted);
        syslog_texts(&s.fields, found);
        for (size_t k = 0; k < SYSLOG_TEXTS; k++)
            if (!text_equal(wanted[k], found[k]))
                fail_msg("field %zu of %.*s", k, (int)length, (const char *)record);
    }
}

/* Parts of messages, joined, with some bytes changed. */
static size_t random_record(uint8_t ret[static 4 * MESSAGE_MAX])
{
    static const uint8_t odd[] = "<>[]:% \t\n\r\0\"\\-=1T.*\x7f\x80\xef\xbb\xbf";
    size_t length = 0;

    for (size_t i = random_below(4); i > 0; i--) {
        const struct message *m = &corpus[random_below(corpus_count)];
        size_t start = random_below(2) ? random_below(m->length + 1) : 0;
        size_t n = random_below(2) ? random_below(m->length - start + 1) : m->length - start;

        memcpy(ret + length, m->bytes + start, n);
        length += n;
    }
    for (size_t i = random_below(4); i > 0 && length > 0; i--)
        ret[random_below(length)] = odd[random_below(sizeof(odd))];
    return length;
}

static void any_record_is_parsed_soundly(void **state)
{
    uint8_t record[4 * MESSAGE_MAX];

    (void)state;
    for (int i = random_rounds(100000); i > 0; i--)
        check_sound(record, random_record(record));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_the_corpus),
        cmocka_unit_test(severity_that_syncs_the_journal_is_not_the_clients),
        cmocka_unit_test(empty_record_is_plain),
        cmocka_unit_test(long_fields),
        cmocka_unit_test(fields_survive_a_record),
        cmocka_unit_test(any_record_is_parsed_soundly),
    };

    random_begin();
    return cmocka_run_group_tests_name("syslog", tests, corpus_read, corpus_free);
}
