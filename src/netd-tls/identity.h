/* SPDX-License-Identifier: MIT */
/*
 * Who a client is by its certificate, and whether a listener's client_names and client_fingerprints
 * admit it. No state.
 */
#pragma once

#include "netd-tls/interface.h"

#include <openssl/x509.h>
#include <stdbool.h>

#define IDENTITY_COMMON_NAME_MAX 256 /* 64 characters (RFC 5280, A.1), each escaped as \xNN */

/* Texts are printable ASCII, and empty where the certificate has nothing for them. */
struct identity {
    char subject[TLS_SUBJECT_MAX + 1];
    char common_name[IDENTITY_COMMON_NAME_MAX + 1];
    char name[TLS_NAME_MAX + 1];
    char fingerprint[2 * TLS_FINGERPRINT_SIZE + 1];
};

/*
 * True if NAME, a DNS name of a certificate with LENGTH bytes, is WANTED, one of client_names.
 * Either may have "*" as its left-most label, which stands for exactly one label of the other (RFC
 * 6125, 6.4.3). Case does not matter; a dot at the end neither.
 */
bool identity_dns_matches(const char *wanted, const char *name, size_t length);

/*
 * Checks CERTIFICATE against the listener's client_names (in subjectAltName alone; one must match)
 * and client_fingerprints. A list that is empty admits everybody. Returns X509_V_OK,
 * X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_APPLICATION_VERIFICATION for a fingerprint that is not
 * in the list, or X509_V_ERR_OUT_OF_MEM.
 */
int identity_check(X509 *certificate, const struct tls_listener_settings *listener);

/* Describes CERTIFICATE; the name is the one that client_names has, else the first. What cannot be
 * decoded is left empty. */
void identity_describe(X509 *certificate, const struct tls_listener_settings *listener,
                       struct identity *ret);
