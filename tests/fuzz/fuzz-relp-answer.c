/* SPDX-License-Identifier: MIT */
/* Answers of a RELP server: an answer is the same whatever follows it, incomplete without its last
 * byte, and within its frame. */
#include "netd-client/relp.h"

#include "fuzz.h"

#include <errno.h>

/* Asserts that the LENGTH bytes at PART are within the SIZE bytes at TEXT. */
static void must_be_within(const char *part, size_t length, const char *text, size_t size)
{
    MUST(part >= text && length <= size && (size_t)(part - text) <= size - length);
}

static void check_offer(const struct relp_answer *answer, const char *name, const char *text,
                        size_t size)
{
    size_t length;
    const char *value = relp_offer(answer, name, &length);

    if (value) {
        must_be_within(value, length, text, size);
        MUST(!memchr(value, '\n', length) && value[-1] == '=');
    }
}

/* Checks ANSWER, which was parsed from the SIZE bytes at TEXT. */
static void check_answer(const struct relp_answer *answer, const char *text, size_t size)
{
    MUST(size <= RELP_ANSWER_MAX && text[size - 1] == '\n');
    MUST((answer->txnr == 0) == (answer->kind == RELP_SERVERCLOSE));
    MUST(answer->txnr <= RELP_TXNR_MAX);
    MUST(answer->status == 0 || (answer->status >= 100 && answer->status <= 999));
    if (answer->status == 0)
        return;
    must_be_within(answer->text, answer->text_length, text, size);
    must_be_within(answer->offers, answer->offers_length, text, size);
    MUST(!memchr(answer->text, '\n', answer->text_length));
    check_offer(answer, "netd_session", text, size);
    check_offer(answer, "", text, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    size_t at = 0;

    MUST(text);
    memcpy(text, data, size); /* on the heap, so that reads past the end are detected */
    for (;;) {
        struct relp_answer answer = {.txnr = 77}, again;
        ssize_t n = relp_parse(&answer, text + at, size - at);

        if (n <= 0) {
            MUST(n == 0 || n == -EBADMSG);
            MUST(answer.txnr == 77);
            MUST(n < 0 || size - at < RELP_ANSWER_MAX);
            break;
        }
        check_answer(&answer, text + at, (size_t)n);
        MUST(relp_parse(&again, text + at, (size_t)n) == n);
        MUST(memcmp(&answer.kind, &again.kind, sizeof(again.kind)) == 0 &&
             answer.txnr == again.txnr && answer.status == again.status);
        MUST(relp_parse(&again, text + at, (size_t)n - 1) == 0);
        at += (size_t)n;
    }
    free(text);
    return 0;
}
