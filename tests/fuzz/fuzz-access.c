/* SPDX-License-Identifier: MIT */
/*
 * Any text as a network, which comes back from its text; and any rules, which decide about any
 * address as a look at each of them does.
 */
#include "common/access.h"

#include "../unit/access.h"
#include "fuzz.h"

#define RULES_MAX 64

/* Lines: "+NETWORK" allows, any other first character denies. Returns how many are good. */
static size_t parse_rules(struct input *in, struct access_rule *rules)
{
    char error[ACCESS_ERROR_MAX], text[ACCESS_TEXT_MAX], *line;
    struct access_network again;
    size_t count = 0;

    while (count < RULES_MAX && (line = input_line(in))) {
        struct access_network *n = &rules[count].network;

        rules[count].allow = line[0] == '+';
        if (line[0] && access_parse(line + 1, n, error) == 0) {
            access_format(n, text);
            MUST(access_parse(text, &again, error) == 0);
            MUST(again.prefix == n->prefix && memcmp(again.ip, n->ip, sizeof(n->ip)) == 0);
            count++;
        } else if (line[0]) {
            MUST(strlen(error) < sizeof(error) && error[0] == '\'');
        }
        free(line);
    }
    return count;
}

static void check_address(const struct access *access, const struct access_range *ranges,
                          const struct access_rule *rules, size_t count, const uint8_t *ip)
{
    struct endpoint e = access_endpoint(ip);

    MUST(access_allows(access, ranges, &e) == access_expect(rules, count, ip));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct access_range ranges[ACCESS_RANGES_MAX(RULES_MAX)];
    struct access_rule rules[RULES_MAX];
    char error[ACCESS_ERROR_MAX];
    struct input in = {data, size};
    struct access access;
    size_t count;

    count = parse_rules(&in, rules);
    if (access_build(&access, ranges, rules, count, error) < 0)
        return 0;
    MUST(access_ranges_good(&access, ranges, count));
    for (uint32_t i = 0; i < access.ranges; i++) {
        uint8_t ip[16];

        memcpy(ip, ranges[i].start, sizeof(ip));
        check_address(&access, ranges, rules, count, ip);
        for (int k = 15; k >= 0 && --ip[k] == 0xff; k--)
            ;
        check_address(&access, ranges, rules, count, ip);
    }
    for (size_t i = 0; i < count; i++)
        check_address(&access, ranges, rules, count, rules[i].network.ip);
    return 0;
}
