#include "libkoal/http/tls_priv.h"

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libkoal/base/mem.h"

enum { FILES = 3, FILE_MOST = 1 << 20, CHAIN_MOST = 16 };

const char *kl_tls_priorities(void)
{
    return "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-KX-ALL:+ECDHE-ECDSA:+ECDHE-RSA:-CIPHER-ALL:+AES-256-GCM:"
           "+AES-128-GCM:+CHACHA20-POLY1305:-MAC-ALL:+AEAD:-SIGN-RSA-SHA1:-SIGN-ECDSA-SHA1:-GROUP-ALL:+GROUP-X25519:"
           "+GROUP-SECP256R1:+GROUP-SECP384R1:%SERVER_PRECEDENCE";
}

/* What one reading of the files gave: immutable, and there until the end. */
struct identity {
    gnutls_certificate_credentials_t creds;
    gnutls_pcert_st    *chain;
    unsigned            chain_count;
    gnutls_privkey_t    key;
    gnutls_x509_trust_list_t clients;                  /* NULL: not asked */
    char               *client_ca;
    time_t              ends;
    struct identity    *older;
};
struct stamp { struct timespec changed; off_t size; ino_t inode; };

struct kl_tls {
    char            *files[FILES];                     /* certificate, key, clients' CA */
    gnutls_priority_t priorities;
    struct kl_metric *ends, unseen;
    pthread_mutex_t  lock;                             /* of what follows */
    struct identity *now;
    struct stamp     stamps[FILES];
};
struct kl_tls_session { gnutls_session_t g; struct kl_tls *tls; bool shaken; const char *alpn; };

/* ---- reading ---- */

static void identity_free(struct identity *i)
{
    for (unsigned k = 0; k < i->chain_count; k++)
        gnutls_pcert_deinit(&i->chain[k]);
    gnutls_free(i->chain);
    if (i->key != NULL)
        gnutls_privkey_deinit(i->key);
    if (i->clients != NULL)
        gnutls_x509_trust_list_deinit(i->clients, 1);
    if (i->creds != NULL)
        gnutls_certificate_free_credentials(i->creds);
    free(i->client_ca);
    free(i);
}

static enum kl_code load(const char *file, gnutls_datum_t *d, struct kl_err *err)
{
    struct stat s;
    int         n;

    if (stat(file, &s) != 0)
        return kl_fail(err, errno == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", file, strerror(errno));
    if (s.st_size > FILE_MOST)
        return kl_fail(err, KL_ELIMIT, "%s is larger than %d KiB", file, FILE_MOST >> 10);
    n = gnutls_load_file(file, d);
    return n == 0 ? KL_OK : kl_fail(err, KL_EIO, "%s: %s", file, gnutls_strerror(n));
}

static enum kl_code read_own(const char *const files[FILES], struct identity *i, struct kl_err *err)
{
    gnutls_datum_t    cert = { 0 }, key = { 0 };
    gnutls_x509_crt_t first = NULL;
    int               n;

    if (load(files[0], &cert, err) != KL_OK || load(files[1], &key, err) != KL_OK)
        goto out;
    i->chain_count = CHAIN_MOST;
    i->chain = gnutls_calloc(CHAIN_MOST, sizeof *i->chain);
    if (i->chain == NULL)
        abort();
    n = gnutls_pcert_list_import_x509_raw(i->chain, &i->chain_count, &cert, GNUTLS_X509_FMT_PEM, 0);
    if (n < 0) {
        i->chain_count = 0;
        kl_fail(err, KL_EINVAL, "%s: %s", files[0], gnutls_strerror(n));
    } else if ((n = gnutls_privkey_init(&i->key)) < 0 ||
               (n = gnutls_privkey_import_x509_raw(i->key, &key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0) {
        kl_fail(err, KL_EINVAL, "%s: %s", files[1], gnutls_strerror(n));
    } else if ((n = gnutls_certificate_set_x509_key_mem2(i->creds, &cert, &key, GNUTLS_X509_FMT_PEM, NULL, 0)) < 0) {
        kl_fail(err, KL_EINVAL, "%s and %s: %s", files[0], files[1], gnutls_strerror(n));
    } else if (gnutls_pcert_export_x509(&i->chain[0], &first) == 0) {
        i->ends = gnutls_x509_crt_get_expiration_time(first);
        gnutls_x509_crt_deinit(first);
    }
out:
    if (key.data != NULL)
        gnutls_memset(key.data, 0, key.size);
    gnutls_free(cert.data);
    gnutls_free(key.data);
    return err->code;
}

static enum kl_code read_clients(const char *file, struct identity *i, struct kl_err *err)
{
    gnutls_datum_t ca = { 0 };
    int            n;

    if (file == NULL)
        return KL_OK;
    if (load(file, &ca, err) != KL_OK)
        return err->code;
    if ((n = gnutls_x509_trust_list_init(&i->clients, 0)) < 0 ||
        (n = gnutls_x509_trust_list_add_trust_mem(i->clients, &ca, NULL, GNUTLS_X509_FMT_PEM, 0, 0)) <= 0 ||
        (n = gnutls_certificate_set_x509_trust_mem(i->creds, &ca, GNUTLS_X509_FMT_PEM)) <= 0)
        kl_fail(err, KL_EINVAL, "%s: %s", file, n < 0 ? gnutls_strerror(n) : "there is no certificate in it");
    else
        i->client_ca = kl_strdup((const char *)ca.data);       /* gnutls_load_file ends it by a NUL */
    gnutls_free(ca.data);
    return err->code;
}

static void take_stamps(const struct kl_tls *t, struct stamp out[FILES])
{
    memset(out, 0, FILES * sizeof *out);
    for (size_t i = 0; i < FILES; i++) {
        struct stat s;

        if (t->files[i] != NULL && stat(t->files[i], &s) == 0)
            out[i] = (struct stamp){ .changed = s.st_mtim, .size = s.st_size, .inode = s.st_ino };
    }
}

static bool is_same(struct kl_tls *t, const struct stamp stamps[FILES])
{
    bool same = true;

    pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < FILES; i++)
        same &= t->stamps[i].changed.tv_sec == stamps[i].changed.tv_sec &&
                t->stamps[i].changed.tv_nsec == stamps[i].changed.tv_nsec && t->stamps[i].size == stamps[i].size &&
                t->stamps[i].inode == stamps[i].inode;
    same &= t->now != NULL;
    pthread_mutex_unlock(&t->lock);
    return same;
}

enum kl_code kl_tls_reload(struct kl_tls *t, bool *changed, struct kl_err *err)
{
    struct stamp     stamps[FILES];
    struct identity *i;

    if (changed != NULL)
        *changed = false;
    take_stamps(t, stamps);                            /* before: what changes meanwhile is read again */
    if (is_same(t, stamps))
        return KL_OK;
    i = kl_new(sizeof *i);
    err->code = KL_OK;
    if (gnutls_certificate_allocate_credentials(&i->creds) < 0)
        abort();
    if (read_own((const char *const *)t->files, i, err) != KL_OK || read_clients(t->files[2], i, err) != KL_OK) {
        identity_free(i);
        return kl_within(err, "TLS");
    }
    pthread_mutex_lock(&t->lock);
    i->older = t->now;
    t->now = i;
    memcpy(t->stamps, stamps, sizeof stamps);
    pthread_mutex_unlock(&t->lock);
    kl_gauge_set(t->ends, (double)i->ends);
    if (changed != NULL)
        *changed = true;
    return KL_OK;
}

enum kl_code kl_tls_open(const struct kl_tls_options *o, struct kl_tls **tls, struct kl_err *err)
{
    const char    *files[FILES] = { o->cert_file, o->key_file, o->client_ca_file };
    struct kl_tls *t = kl_new(sizeof *t);

    for (size_t i = 0; i < FILES; i++)
        if (files[i] != NULL && files[i][0] != '\0')
            t->files[i] = kl_strdup(files[i]);
    pthread_mutex_init(&t->lock, NULL);
    t->ends = o->metrics == NULL ? &t->unseen
        : kl_metrics_add(o->metrics, KL_GAUGE, "koalemos_tls_certificate_expires_timestamp_seconds", "",
                         "When the certificate that is shown to clients ends to be valid.");
    if (gnutls_priority_init(&t->priorities, kl_tls_priorities(), NULL) < 0)
        abort();                                       /* our own words */
    if (t->files[0] == NULL || t->files[1] == NULL)
        kl_fail(err, KL_EINVAL, "tls.cert.file and tls.key.file go together%s",
                t->files[2] != NULL ? ", and tls.client_ca.file with them" : "");
    else if (kl_tls_reload(t, NULL, err) == KL_OK) {
        *tls = t;
        return KL_OK;
    }
    kl_tls_close(t);
    return err->code;
}

void kl_tls_close(struct kl_tls *t)
{
    if (t == NULL)
        return;
    for (struct identity *i = t->now, *older; i != NULL; i = older) {
        older = i->older;
        identity_free(i);
    }
    gnutls_priority_deinit(t->priorities);
    for (size_t i = 0; i < FILES; i++)
        free(t->files[i]);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static struct identity *current(struct kl_tls *t)
{
    struct identity *i;

    pthread_mutex_lock(&t->lock);
    i = t->now;
    pthread_mutex_unlock(&t->lock);
    return i;
}

bool  kl_tls_asks(const struct kl_tls *t) { return t->files[2] != NULL; }
char *kl_tls_client_ca(const struct kl_tls *t) { return current((struct kl_tls *)(uintptr_t)t)->client_ca; }

/* ---- whom we talk to ---- */

bool kl_tls_certified_raw(struct kl_tls *t, void *session)
{
    const struct identity *i = current(t);
    unsigned               count = 0, status = 1, made = 0;
    const gnutls_datum_t  *raw = gnutls_certificate_get_peers(session, &count);
    gnutls_x509_crt_t      chain[CHAIN_MOST];
    gnutls_typed_vdata_st  purpose = { .type = GNUTLS_DT_KEY_PURPOSE_OID,
                                       .data = (unsigned char *)(uintptr_t)GNUTLS_KP_TLS_WWW_CLIENT };
    bool                   good;

    if (i->clients == NULL || raw == NULL || count == 0 || count > CHAIN_MOST)
        return false;
    for (; made < count; made++) {
        if (gnutls_x509_crt_init(&chain[made]) < 0)
            break;
        if (gnutls_x509_crt_import(chain[made], &raw[made], GNUTLS_X509_FMT_DER) < 0) {
            gnutls_x509_crt_deinit(chain[made]);
            break;
        }
    }
    good = made == count && gnutls_x509_trust_list_verify_crt2(i->clients, chain, count, &purpose, 1, 0, &status,
                                                               NULL) == 0 && status == 0;
    while (made > 0)
        gnutls_x509_crt_deinit(chain[--made]);
    return good;
}

static int retrieve(gnutls_session_t session, const gnutls_datum_t *ca, int ca_count,
                    const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
                    unsigned *count, gnutls_privkey_t *key)
{
    struct kl_tls         *t = kl_tls_of_connection(gnutls_session_get_ptr(session));
    const struct identity *i = current(t);

    (void)ca;
    (void)ca_count;
    (void)algorithms;
    (void)algorithm_count;
    *chain = i->chain;
    *count = i->chain_count;
    *key = i->key;
    return 0;
}

void *kl_tls_retrieve(void) { return (void *)retrieve; }

/* ---- sessions of our own ---- */

struct kl_tls_session *kl_tls_session_new(struct kl_tls *t, int fd, const char *alpn)
{
    struct kl_tls_session *s = kl_new(sizeof *s);
    struct identity       *i = current(t);
    gnutls_datum_t         name = { .data = (unsigned char *)(uintptr_t)alpn, .size = (unsigned)strlen(alpn) };

    s->tls = t;
    s->alpn = alpn;
    if (gnutls_init(&s->g, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL) < 0) {
        free(s);
        return NULL;
    }
    if (gnutls_priority_set(s->g, t->priorities) < 0 ||
        gnutls_credentials_set(s->g, GNUTLS_CRD_CERTIFICATE, i->creds) < 0 ||
        gnutls_alpn_set_protocols(s->g, &name, 1, GNUTLS_ALPN_MANDATORY) < 0) {
        gnutls_deinit(s->g);
        free(s);
        return NULL;
    }
    if (i->clients != NULL)
        gnutls_certificate_server_set_request(s->g, GNUTLS_CERT_REQUEST);
    gnutls_transport_set_int(s->g, fd);
    return s;
}

void kl_tls_session_free(struct kl_tls_session *s)
{
    if (s == NULL)
        return;
    if (s->shaken)
        (void)gnutls_bye(s->g, GNUTLS_SHUT_WR);        /* the socket does not block */
    gnutls_deinit(s->g);
    free(s);
}

enum kl_tls_step kl_tls_handshake(struct kl_tls_session *s)
{
    gnutls_datum_t agreed;
    int            n;

    if (s->shaken)
        return KL_TLS_DONE;
    do
        n = gnutls_handshake(s->g);
    while (n < 0 && n != GNUTLS_E_AGAIN && gnutls_error_is_fatal(n) == 0);
    if (n == GNUTLS_E_AGAIN)
        return gnutls_record_get_direction(s->g) == 1 ? KL_TLS_WRITES : KL_TLS_READS;
    s->shaken = n == 0 && gnutls_alpn_get_selected_protocol(s->g, &agreed) == 0 && agreed.size == strlen(s->alpn) &&
                memcmp(agreed.data, s->alpn, agreed.size) == 0;
    return s->shaken ? KL_TLS_DONE : KL_TLS_FAILED;
}

static ssize_t as_errno(ssize_t n)
{
    if (n >= 0)
        return n;
    errno = n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED ? EAGAIN : EIO;
    return -1;
}

ssize_t kl_tls_recv(struct kl_tls_session *s, void *to, size_t size)
{
    return as_errno(gnutls_record_recv(s->g, to, size));
}

ssize_t kl_tls_send(struct kl_tls_session *s, const void *from, size_t size)
{
    return as_errno(gnutls_record_send(s->g, from, size));
}

bool kl_tls_certified(struct kl_tls_session *s) { return kl_tls_certified_raw(s->tls, s->g); }
