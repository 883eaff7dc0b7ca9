#ifndef KL_APP_H
#define KL_APP_H
/*
 * What each program does alike: read flags, environment and file into a config; a log on stderr; a
 * registry of metrics; an HTTP server with /-/healthy, /-/ready, /ready, /metrics, /version, /config,
 * /-/quit, /-/reload; SIGTERM and SIGINT to a graceful stop, SIGHUP to a reload of the configuration;
 * a sentence and an exit status on failure.
 */
#include "libkoal/base/config.h"
#include "libkoal/base/log.h"
#include "libkoal/base/metrics.h"
#include "libkoal/base/trace.h"
#include "libkoal/crypt/keys.h"
#include "libkoal/env/env.h"
#include "libkoal/env/live.h"
#include "libkoal/http/http.h"

/* For a program that does one thing and ends: its main thread waits for what a loop or a worker will
 * tell, once. wait_for: false when it was not told in time. */
struct kl_app_wait;
struct kl_app_wait *kl_app_wait_new(void);
void kl_app_wait_free(struct kl_app_wait *w);
void kl_app_wait_tell(struct kl_app_wait *w);
bool kl_app_wait_for(struct kl_app_wait *w, int64_t most_ms);

const char *kl_app_variable(const char *name);         /* of the environment; NULL: not set */

#define KL_APP_VERSION "0.1.0"

struct kl_app {
    const char *name;                                  /* "doorman" */
    const struct kl_config *config;                    /* as at the start, for ever */
    struct kl_env_live *live;                          /* and as it is now: options that are `live` */
    struct kl_log *log;
    struct kl_metrics *metrics;
    struct kl_tracer *tracer;                          /* NULL: trace.otlp_url is not set */
    struct kl_env *env;
    struct kl_keys *keys;                              /* of encryption.keys: what is in folders; NULL: none */
    struct kl_keys *store_key;                         /* of store.encryption_key: the first; NULL: none */
    const char *hostname, *folder;                     /* this machine's, and where it was started */
    const struct kl_guard *guard;                      /* of every listener, from kl_app_secure on */
    struct kl_tls *tls;                                /* from then on; NULL: cleartext */
    const char *audit_in;                              /* set before: the folder in which the audit log is
                                                          kept where audit.dir says nothing; NULL: nowhere */
    struct kl_http_server *http;                       /* routes may be added until run */
    /* Asked by /-/ready: false and words when it cannot serve. */
    bool (*ready)(void *ctx, struct kl_err *err);
    void *ctx;
};
extern const struct kl_option kl_app_options[];        /* the one table: every option there is */
extern const struct kl_config_section kl_app_sections[];
/* What no row of the table can say by itself. Pure; the words say where. */
enum kl_code kl_app_check(const struct kl_config *c, struct kl_err *err);
/* The same of what is said of one tenant, wherever; of none where nothing is said of him. */
enum kl_code kl_app_check_tenant(const struct kl_config *c, const char *tenant, struct kl_err *err);
/* A file of 1 MiB at most, malloc'ed, with a NUL behind. */
enum kl_code kl_app_read_file(const char *path, char **bytes, size_t *size, struct kl_err *err);
void kl_app_config_page(struct kl_buf *out);           /* deploy/CONFIG.md, whole */
/* The address of a program that listens on none: it is no server, is not put into a sandbox, and a signal ends it. */
#define KL_APP_TOOL "127.0.0.1:0"
/* argv[first..] are flags. --config FILE, --help, --print-config are done here: then, and on an
 * error, returns the exit status in *status and NULL. */
struct kl_app *kl_app_open(const char *name, int argc, char **argv, int first,
                           const char *default_listen, int *status);
/* Opens what guards the listeners: keys and the audit log. To be called before a listener that is not
 * `http` starts; kl_app_run does what was not done. */
enum kl_code kl_app_secure(struct kl_app *a, struct kl_err *err);
/* A secret out of a file, without the line end; the caller wipes and frees it. */
enum kl_code kl_app_secret_read(const char *path, char **bytes, size_t *size, struct kl_err *err);
/* Starts the HTTP server, says where it listens, waits for a signal or /-/quit; then stops
 * listening and drains answers under way, while the services behind the routes still live. When it
 * returns no handler runs any more: the caller frees its services, then closes. Returns the exit
 * status. A second signal, while it stops, ends the process at once. */
int  kl_app_run(struct kl_app *a);
/* Of a struct kl_app: whether the last reload was taken, and when what is in force was. Any thread, at once. */
void kl_app_reloaded(void *app, bool *well, int64_t *taken_ms);
int64_t kl_app_drain_ms(struct kl_app *a);             /* http.drain, as it is now */
void kl_app_close(struct kl_app *a);                   /* frees all of it; env last */
/* For main(): says what failed, on the log and stderr, and gives the exit status. */
int  kl_app_failed(struct kl_app *a, const struct kl_err *err);
#endif
