#ifndef KL_HTTP_CLIENT_H
#define KL_HTTP_CLIENT_H
/*
 * An HTTP client, for commands and for what a thread of its own sends, over libcurl (client_curl.c, the one
 * file here that knows it): a body is sent, and the answer taken as it comes. Blocks; one thread a client.
 * A connection is kept.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

struct kl_http_client;
struct kl_http_client_options {                        /* copied; each may be NULL */
    const char *ca_file, *token_file;                  /* token: read anew for each request */
    const char *tenant;                                /* X-Scope-OrgID */
};
struct kl_http_client *kl_http_client_new(const struct kl_http_client_options *o);
void kl_http_client_free(struct kl_http_client *c);

enum { KL_HTTP_CLIENT_WORDS_MAX = 4096 };
struct kl_http_asked {
    const char *url;
    const char *method;                                /* NULL: POST. GET: its body, a form, goes into the URL */
    struct kl_span body;
    const char *type;                                  /* of the body; NULL: application/x-www-form-urlencoded */
    int64_t timeout_ms;                                /* for all of it; 0: one that stalls for 300 s is given up */
    /* Of an answer of 2xx; false: no further, and KL_ECANCELED. NULL: it is passed over. */
    bool (*take)(void *ctx, struct kl_span bytes);
    void *ctx;
    const char *header;                                /* of the answer: which to keep; or NULL */
    /* filled: */
    char     shown[200];                               /* the address as it may be told; a long one is cut off */
    unsigned status;
    bool     refused;                                  /* with KL_EAGAIN: nobody listens there */
    char     kept[64];                                 /* that header's value */
    char     words[KL_HTTP_CLIENT_WORDS_MAX + 1];      /* the beginning of any other answer, as one line of
                                                          ASCII; not where it may repeat a secret of ours */
};
/* KL_OK: there was an answer, whole; whatever its status. KL_EAGAIN: there was none, or it broke off.
 * KL_EIO: the token cannot be read. No secret of the address, nor a token, is told in errors. */
enum kl_code kl_http_client_ask(struct kl_http_client *c, struct kl_http_asked *a, struct kl_err *err);
/* `name`=`value` added to a form. */
void kl_http_form_add(struct kl_buf *form, const char *name, struct kl_span value);
#endif
