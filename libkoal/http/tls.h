#ifndef KL_TLS_H
#define KL_TLS_H
/*
 * TLS for listeners, over GnuTLS (tls.c, the one file that knows it): who we are, by files that may be
 * replaced while the server runs, and whose certificates clients may show. TLS 1.2 and 1.3, ECDHE with
 * AES-GCM or ChaCha20-Poly1305, and nothing else; no renegotiation, no compression.
 *
 * `reload` takes new files all together or not at all; connections that are open keep what they began with.
 * What a reload replaces stays in memory until the end (a few KiB each): a handshake may be using it.
 * Any thread; its one lock is a leaf.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "libkoal/base/err.h"
#include "libkoal/base/metrics.h"

struct kl_tls;
struct kl_tls_options {
    const char *cert_file, *key_file;                  /* PEM; the certificate first, then what signed it */
    const char *client_ca_file;                        /* PEM; NULL: clients are not asked for certificates */
    struct kl_metrics *metrics;                        /* when the certificate ends */
};
/* KL_ENOENT, KL_EINVAL (they do not belong together, are no PEM) with a sentence; never a word of a key. */
enum kl_code kl_tls_open(const struct kl_tls_options *o, struct kl_tls **tls, struct kl_err *err);
void         kl_tls_close(struct kl_tls *t);           /* after the listeners; NULL is fine */
/* Reads the files anew where one of them is another than it was. *changed may be NULL. */
enum kl_code kl_tls_reload(struct kl_tls *t, bool *changed, struct kl_err *err);
bool         kl_tls_asks(const struct kl_tls *t);      /* for certificates of clients */

/* A connection of ours, over a socket that does not block. One thread. */
struct kl_tls_session;
struct kl_tls_session *kl_tls_session_new(struct kl_tls *t, int fd, const char *alpn);  /* NULL: no memory */
void         kl_tls_session_free(struct kl_tls_session *s);            /* says goodbye where the socket takes it */
enum kl_tls_step { KL_TLS_DONE, KL_TLS_READS, KL_TLS_WRITES, KL_TLS_FAILED };
enum kl_tls_step kl_tls_handshake(struct kl_tls_session *s);           /* FAILED also where alpn is not agreed */
/* As recv and send: -1 with EAGAIN where it is to be tried again, the same bytes in the case of send. */
ssize_t      kl_tls_recv(struct kl_tls_session *s, void *to, size_t size);
ssize_t      kl_tls_send(struct kl_tls_session *s, const void *from, size_t size);
/* Whether the peer showed a certificate that the CA signed, and that is one for clients, valid now. */
bool         kl_tls_certified(struct kl_tls_session *s);
#endif
