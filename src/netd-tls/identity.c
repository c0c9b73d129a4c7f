/* SPDX-License-Identifier: MIT */
#include "netd-tls/identity.h"

#include "common/escape.h"
#include "common/util.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

/* --- Names --- */

/* A part of a name, without NUL. */
struct label {
    const char *text;
    size_t length;
};

static bool is_wildcard(struct label name)
{
    return name.length > 2 && name.text[0] == '*' && name.text[1] == '.';
}

/* What follows the left-most label, with its dot; empty if there is no second label. */
static struct label parent_of(struct label name)
{
    const char *dot = memchr(name.text, '.', name.length);

    return dot ? (struct label){dot, name.length - (size_t)(dot - name.text)}
               : (struct label){name.text, 0};
}

static bool is_equal(struct label a, struct label b)
{
    return a.length == b.length && strncasecmp(a.text, b.text, a.length) == 0;
}

static struct label without_final_dot(const char *text, size_t length)
{
    return (struct label){text, length > 0 && text[length - 1] == '.' ? length - 1 : length};
}

bool identity_dns_matches(const char *wanted, const char *name, size_t length)
{
    struct label a = without_final_dot(wanted, strlen(wanted));
    struct label b = without_final_dot(name, length);

    if (memchr(name, '\0', length) || b.length == 0 || name[0] == '.')
        return false;
    if (is_equal(a, b))
        return true;
    if (!is_wildcard(a) && !is_wildcard(b))
        return false;
    return is_equal(parent_of(a), parent_of(b)) && parent_of(a).length > 0;
}

static bool address_matches(const char *wanted, const ASN1_OCTET_STRING *address)
{
    const int length = ASN1_STRING_length(address);
    uint8_t ip[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, wanted, ip) == 1)
        return length == 4 && memcmp(ip, ASN1_STRING_get0_data(address), 4) == 0;
    return inet_pton(AF_INET6, wanted, ip) == 1 && length == 16 &&
           memcmp(ip, ASN1_STRING_get0_data(address), 16) == 0;
}

static bool name_matches(const char *wanted, const GENERAL_NAME *name)
{
    if (name->type == GEN_IPADD)
        return address_matches(wanted, name->d.iPAddress);
    return name->type == GEN_DNS &&
           identity_dns_matches(wanted, (const char *)ASN1_STRING_get0_data(name->d.dNSName),
                                (size_t)ASN1_STRING_length(name->d.dNSName));
}

static bool listener_has_name(const struct tls_listener_settings *l, const GENERAL_NAME *name)
{
    for (uint32_t i = 0; i < l->n_client_names; i++)
        if (name_matches(l->client_names[i], name))
            return true;
    return false;
}

/* Returns the first of NAMES that client_names has, or the first of all if that is empty; else
 * NULL. NAMES may be NULL. */
static const GENERAL_NAME *find_name(const GENERAL_NAMES *names,
                                     const struct tls_listener_settings *l)
{
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);

        if (name->type != GEN_DNS && name->type != GEN_IPADD)
            continue;
        if (l->n_client_names == 0 || listener_has_name(l, name))
            return name;
    }
    return NULL;
}

static GENERAL_NAMES *names_of(X509 *certificate)
{
    return X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

static bool has_name(X509 *certificate, const struct tls_listener_settings *l)
{
    GENERAL_NAMES *names = names_of(certificate);
    bool found = find_name(names, l);

    GENERAL_NAMES_free(names);
    return found;
}

/* --- Fingerprints --- */

static bool get_fingerprint(X509 *certificate, uint8_t ret[static EVP_MAX_MD_SIZE])
{
    unsigned length = 0;

    return X509_digest(certificate, EVP_sha256(), ret, &length) == 1 &&
           length == TLS_FINGERPRINT_SIZE;
}

static bool listener_has_fingerprint(const struct tls_listener_settings *l, const uint8_t *digest)
{
    for (uint32_t i = 0; i < l->n_client_fingerprints; i++)
        if (memcmp(l->client_fingerprints[i], digest, TLS_FINGERPRINT_SIZE) == 0)
            return true;
    return false;
}

int identity_check(X509 *certificate, const struct tls_listener_settings *listener)
{
    uint8_t digest[EVP_MAX_MD_SIZE];

    if (listener->n_client_names > 0 && !has_name(certificate, listener))
        return X509_V_ERR_HOSTNAME_MISMATCH;
    if (listener->n_client_fingerprints == 0)
        return X509_V_OK;
    if (!get_fingerprint(certificate, digest))
        return X509_V_ERR_OUT_OF_MEM;
    return listener_has_fingerprint(listener, digest) ? X509_V_OK
                                                      : X509_V_ERR_APPLICATION_VERIFICATION;
}

/* --- Texts --- */

/* RFC 4514; OpenSSL escapes control characters and what is not ASCII as \NN. */
static void describe_subject(X509 *certificate, char ret[static TLS_SUBJECT_MAX + 1])
{
    BIO *bio = BIO_new(BIO_s_mem());
    int n = 0;

    if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0)
        n = BIO_read(bio, ret, TLS_SUBJECT_MAX);
    ret[n > 0 ? n : 0] = '\0';
    BIO_free(bio);
}

static void describe_common_name(X509 *certificate, char ret[static IDENTITY_COMMON_NAME_MAX + 1])
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1), n;
    unsigned char *text = NULL;

    if (at < 0)
        return;
    n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (n > 0)
        (void)escape_copy(ret, IDENTITY_COMMON_NAME_MAX + 1, text, (size_t)n);
    OPENSSL_free(text);
}

static void describe_name(X509 *certificate, const struct tls_listener_settings *l,
                          char ret[static TLS_NAME_MAX + 1])
{
    GENERAL_NAMES *names = names_of(certificate);
    const GENERAL_NAME *name = find_name(names, l);
    const ASN1_STRING *value = !name                     ? NULL
                               : name->type == GEN_IPADD ? name->d.iPAddress
                                                         : name->d.dNSName;
    const size_t length = value ? (size_t)ASN1_STRING_length(value) : 0;

    if (name && name->type == GEN_DNS)
        (void)escape_copy(ret, TLS_NAME_MAX + 1, ASN1_STRING_get0_data(value), length);
    else if (length == 4 || length == 16)
        (void)inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), ret,
                        TLS_NAME_MAX);
    GENERAL_NAMES_free(names);
}

void identity_describe(X509 *certificate, const struct tls_listener_settings *listener,
                       struct identity *ret)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    char *at;

    *ret = (struct identity){0};
    describe_subject(certificate, ret->subject);
    describe_common_name(certificate, ret->common_name);
    describe_name(certificate, listener, ret->name);
    if (!get_fingerprint(certificate, digest))
        return;
    at = ret->fingerprint;
    for (size_t i = 0; i < TLS_FINGERPRINT_SIZE; i++)
        at = put_hex(at, digest[i]);
    *at = '\0';
}
