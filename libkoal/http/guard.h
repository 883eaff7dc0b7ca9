#ifndef KL_GUARD_H
#define KL_GUARD_H
/*
 * Who may do what, asked by every listener before anything is done: once the head of a request is there
 * and before its body is read. The guard itself lies elsewhere (libkoal/auth); servers know only this.
 * `judge` is called on a server's thread and must not block for long; it fills the verdict. `done` is
 * called for those that were let through, when they are answered, on whatever thread answers.
 */
#include <stdbool.h>
#include <stdint.h>

enum { KL_GUARD_KEY_MAX = 63, KL_GUARD_TENANT_MAX = 150, KL_GUARD_WORDS_MAX = 255, KL_GUARD_PEER_MAX = 63 };

struct kl_guard_ask {
    const char *method;                                /* "GET", ...; "MESSAGE" over NATS */
    const char *route;                                 /* as registered; NULL: there is none */
    const char *path;                                  /* as asked for, decoded */
    const char *authorization, *tenant;                /* headers, or NULL */
    const char *peer;                                  /* address, for people */
    bool        uncertified;                           /* clients are asked for certificates; it showed none
                                                          that is good */
};
struct kl_guard_verdict {
    unsigned status;                                   /* 0: go on; else 401, 403, 429, 503, with words */
    unsigned retry_after_s;
    char words[KL_GUARD_WORDS_MAX + 1];
    char key[KL_GUARD_KEY_MAX + 1];                    /* which key asks; "" without */
    char tenant[KL_GUARD_TENANT_MAX + 1];              /* what takes the place of the header; "": nothing */
};
struct kl_guard {
    void (*judge)(void *ctx, const struct kl_guard_ask *ask, struct kl_guard_verdict *v);
    void (*done)(void *ctx, const struct kl_guard_ask *ask, const char *key, unsigned status);   /* or NULL */
    void *ctx;
};
#endif
