#ifndef KL_APP_PRIV_H
#define KL_APP_PRIV_H
/* Between the app's files. */
#include <pthread.h>
#include <stdatomic.h>

#include "libkoal/app/app.h"
#include "libkoal/app/trace_priv.h"
#include "libkoal/auth/auth.h"
#include "libkoal/http/client.h"

struct kl_app_log { struct kl_log log; const char *service; _Atomic bool json; };
void kl_app_log_init(struct kl_app_log *l, const char *service);
/* While others may write to it. */
void kl_app_log_configure(struct kl_app_log *l, const struct kl_config *c);

struct kl_app_reloads {
    pthread_mutex_t lock;                              /* one reload at a time, of secrets too */
    uint64_t hash;                                     /* of the one in force */
    _Atomic int64_t good_ms;                           /* who only asks for these two waits for no reload */
    _Atomic bool    well;                              /* the last attempt was taken */
    int64_t  refused_ms;
    char     refused[KL_ERR_TEXT_MAX];                 /* of the last attempt; "": it was taken */
    struct kl_metric *successful, *good_s, *hash_gauge;
};

/* ---- ready.c ---- */
struct kl_app_told {                                   /* what the log was told of it last */
    enum { KL_APP_NOTHING, KL_APP_WAITS, KL_APP_READY } state;
    int64_t at_ms;
    char    words[KL_ERR_TEXT_MAX];
};
struct app;
bool kl_app_is_ready(struct app *a, struct kl_err *err);       /* false: err says what it waits for */
/* Main's thread, now and then: a line when it has become ready, or waits, or still does. */
void kl_app_tell_ready(struct app *a);

struct app {
    struct kl_app app;
    struct kl_app_log log;
    struct kl_config *begun_with;                      /* app.config: stays for as long as the process */
    struct kl_config *config;                          /* of the file, in force; under reloads.lock */
    char             *file;                            /* its name; NULL: none */
    struct kl_app_reloads reloads;
    char   *listen, hostname[256], instance[512], folder[4096];
    int     argc, first;                               /* as the program was called: for a reload */
    char  **argv;
    int     wake[2];                                   /* a pipe: a byte in it ends the run */
    struct kl_http_client *post;                       /* the tracer's way out */
    struct kl_app_told told;
    _Atomic bool running;                              /* until it is, and once it no longer is: not ready */
    int64_t started_ms;
    struct kl_auth  *auth;                             /* once the listeners are guarded */
    struct kl_audit *audit;                            /* or NULL: nothing is recorded */
    char    secure_said[KL_ERR_TEXT_MAX];              /* what was wrong with keys or certificates last; "" */
};
void kl_app_last_routes(struct app *a);                /* for what no service has taken */
void kl_app_routes(struct app *a);                     /* health, metrics, version, config, quit, reload */

/* ---- app.c ---- */
/* Flags, environment and file, as at the start. */
enum kl_code kl_app_load(int argc, char **argv, int first, struct kl_config **config, struct kl_err *err);

/* ---- reload.c ---- */
void kl_app_reloads_begin(struct app *a);
void kl_app_reloads_end(struct app *a);
/* Reads the configuration again as at the start, and takes it: all of it, or nothing. KL_EINVAL and others:
 * it is none any more; KL_ELIMIT: options have changed that take a restart. Any thread; `words` is a
 * sentence in each case. */
enum kl_code kl_app_reload(struct app *a, char *words, size_t size);
void kl_app_config_say(struct app *a, struct kl_buf *out);     /* the page /config */
/* Before threads: gives up what a server does not need. Fails only where `sandbox` is on and cannot be. */
enum kl_code kl_app_sandbox(struct app *a, struct kl_err *err);
enum kl_code kl_app_secure_check(const struct kl_config *c, struct kl_err *err);
/* Reads keys and certificates anew where their files have changed: all keys or none, all of certificate, key
 * and CA or none. What is wrong with the ones does not keep the others from being taken. */
enum kl_code kl_app_secure_reload(struct app *a, struct kl_err *err);
void kl_app_secure_watch(struct app *a);               /* the same, every few seconds; says what is wrong, once */
void kl_app_secure_close(struct app *a);
/* What each process says of itself at /metrics, in the text format. */
void kl_app_process_metrics(const char *service, int64_t started_ms, struct kl_buf *out);
#endif
