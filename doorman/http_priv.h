#ifndef DM_HTTP_PRIV_H
#define DM_HTTP_PRIV_H
/*
 * Inside the doorman's HTTP side. A call is a push together with the request that it answers; a route's
 * handler makes one, fills in what its format needs, and hands it on. Each family of routes has its file.
 */
#include <stdatomic.h>

#include "doorman/doorman.h"
#include "doorman/tenants.h"
#include "libkoal/http/http.h"
#include "libtsproto/inflate.h"

struct dm_http {
    struct dm_doorman *doorman;
    struct kl_env     *env;
    /* Where bodies are unpacked that may hold much: one after the other, so that they neither keep the
     * server's threads from other requests nor are in memory all at once. */
    struct kl_env_loop *unpacker;
    _Atomic bool ending;
};

struct dm_call {
    struct dm_push push;
    struct kl_http_request *request;
    /* Says what became of the push: plain text unless the route sets another form. Retry-After and
     * what remote write wants are set already. */
    void (*answer)(struct dm_call *c);
    void (*release)(struct dm_call *c);                /* lets go of what the route made; may be NULL */
    struct dm_http *http;                              /* while it waits to be unpacked: */
    enum tsp_coding coding;
    void (*unpack)(struct dm_call *c);
    struct kl_env_task task;
    _Alignas(16) char more[];                          /* the route's own, zeroed, freed with the call */
};

/* A call with `more` bytes behind it. */
struct dm_call *dm_http_call(struct dm_http *h, struct kl_http_request *r, enum dm_format format,
                             size_t more);
/* Tenant and body from the request, and on to the gate; or answers what is wrong with them. Takes
 * the call. */
void dm_http_take(struct dm_http *h, struct dm_call *c, enum tsp_coding coding);
void dm_http_drop(struct dm_call *c);                  /* one that is not handed on */
/* Calls c->unpack with http and coding set: here, if the body cannot hold much, else on the unpacker.
 * Where too many wait for that, or the doorman ends, it answers 503. Takes the call. */
void dm_http_unpack(struct dm_http *h, struct dm_call *c, enum tsp_coding coding,
                    void (*unpack)(struct dm_call *c));

void dm_http_say(struct kl_http_request *r, unsigned status, const char *words);      /* plain text */
/* Does the Content-Type say `type`? One that is absent says nothing against it. */
bool dm_http_is_type(const char *header, const char *type);
/* The body's coding; false: there is none such, and 415 was answered. */
bool dm_http_coding(struct kl_http_request *r, enum tsp_coding *coding);

/* ---- http_import.c ---- */
void dm_http_import_routes(struct dm_http *h, struct kl_http_server *s, const _Atomic size_t *body_max);
/* ---- http_otlp.c ---- */
void dm_http_otlp(struct dm_http *h, struct kl_http_server *s, const _Atomic size_t *body_max);
#endif
