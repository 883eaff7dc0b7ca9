#include "libkoal/app/app_priv.h"
#include "libkoal/base/hex.h"

#include "libkoal/http/around.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20, ARGS_MAX = 200, TRACE_LEAVES_MS = 2000 };

/* ---- options ---- */

const char *kl_app_variable(const char *name) { return getenv(name); }

enum kl_code kl_app_read_file(const char *path, char **bytes, size_t *size,
                              struct kl_err *err)
{
    FILE  *f = fopen(path, "re");
    char  *at;
    size_t n;

    if (f == NULL)
        return kl_fail(err, errno == ENOENT ? KL_ENOENT : KL_EIO, "config file %s: %s", path,
                       strerror(errno));
    at = kl_new(FILE_MAX + 1);
    n = fread(at, 1, FILE_MAX + 1, f);
    if (ferror(f) || n > FILE_MAX) {
        kl_fail(err, KL_EIO, "config file %s: %s", path, ferror(f) ? strerror(errno) : "is larger than 1 MiB");
        fclose(f);
        free(at);
        return err->code;
    }
    fclose(f);
    at[n] = '\0';
    *bytes = at;
    *size = n;
    return KL_OK;
}

enum { LOOK_MS = 1000, WATCH_LOOKS = 5, GIVE_BACK_LOOKS = 30 };

struct flags { char *args[ARGS_MAX + 1]; unsigned count; const char *config; bool help, print, version; };

/* "--name value" and "--name=value" become "--name=value". */
static enum kl_code read_flags(int argc, char **argv, int first, struct flags *f, struct kl_err *err)
{
    for (int i = first; i < argc; i++) {
        const char *flag = argv[i], *value = strchr(flag, '='), *next = i + 1 < argc ? argv[i + 1] : NULL;
        size_t      n;

        if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0) {
            f->help = true;
            continue;
        }
        if (strcmp(flag, "--print-config") == 0 || strcmp(flag, "--version") == 0) {
            *(flag[2] == 'p' ? &f->print : &f->version) = true;
            continue;
        }
        if (strncmp(flag, "--", 2) != 0)
            return kl_fail(err, KL_EINVAL, "\"%.80s\" is no flag; --help lists them", flag);
        n = value != NULL ? (size_t)(value - flag) : strlen(flag);
        if (value != NULL)
            value++;
        else if (next != NULL && strncmp(next, "--", 2) != 0) {
            value = next;
            i++;
        }
        if (n == 8 && strncmp(flag, "--config", n) == 0) {
            if (value == NULL)
                return kl_fail(err, KL_EINVAL, "--config wants a file");
            f->config = value;
            continue;
        }
        if (f->count == ARGS_MAX)
            return kl_fail(err, KL_EINVAL, "more than %d flags", ARGS_MAX);
        f->args[f->count] = kl_new(strlen(flag) + (value != NULL ? strlen(value) : 0) + 2);
        sprintf(f->args[f->count++], "%.*s%s%s", (int)n, flag, value != NULL ? "=" : "",
                value != NULL ? value : "");
    }
    return KL_OK;
}

extern char **environ;

static enum kl_code load(const struct flags *f, struct kl_config **config, struct kl_err *err)
{
    char        *yaml = NULL;
    size_t       size = 0;
    enum kl_code code = KL_OK;

    if (f->config != NULL)
        code = kl_app_read_file(f->config, &yaml, &size, err);
    if (code == KL_OK)
        code = kl_config_load(kl_app_options, f->config, kl_span(yaml, size),
                              (const char *const *)environ, (const char *const *)f->args, config, err);
    free(yaml);
    if (code == KL_OK && (code = kl_app_check(*config, err)) != KL_OK) {
        kl_config_free(*config);
        *config = NULL;
    }
    return code;
}

enum kl_code kl_app_load(int argc, char **argv, int first, struct kl_config **config, struct kl_err *err)
{
    struct flags f = { 0 };
    enum kl_code code = read_flags(argc, argv, first, &f, err);

    if (code == KL_OK)
        code = load(&f, config, err);
    for (unsigned i = 0; i < f.count; i++)
        free(f.args[i]);
    return code;
}

static void print_help(const char *name)
{
    struct kl_buf b = { 0 };

    kl_config_help(kl_app_options, &b);
    printf("usage: %s [--config FILE] [--OPTION VALUE ...]\n\n"
           "  --config FILE     YAML; one file serves every service\n"
           "  --print-config    prints the configuration as it would be used, and ends\n"
           "  --version\n"
           "  --help\n\n"
           "Options, each also in the file (log.level is level in the map log) and in the environment\n"
           "(KOALEMOS_LOG_LEVEL); a flag wins over the environment, which wins over the file.\n\n"
           "%.*s", name, (int)b.size, b.at);
    kl_buf_deinit(&b);
}

/* ---- open ---- */

/* Of a server they are read where it runs (kl_app_run). A tool dies of them, at any point, as of a crash: what it left
 * half done is done by the next one. */
static void block_signals(bool is_server)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    if (!is_server)
        return;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);                /* before any thread: all inherit it */
}

/* Connections are many, and the soft limit is often 1,024 for the sake of select(2). */
static void raise_file_limit(struct app *a)
{
    struct rlimit l;

    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur == l.rlim_max)
        return;
    l.rlim_cur = l.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &l) != 0)
        kl_logf(a->app.log, KL_WARN, "cannot raise the limit of open files: %s", strerror(errno));
}

static enum kl_code post_spans(void *ctx, struct kl_span body, int64_t timeout_ms, struct kl_err *err)
{
    struct app          *a = ctx;
    struct kl_http_asked q = { .url = kl_config_text(a->begun_with, "trace.otlp_url"), .body = body,
                               .type = "application/x-protobuf", .timeout_ms = timeout_ms };

    if (kl_http_client_ask(a->post, &q, err) != KL_OK)
        return err->code;
    if (q.status / 100 == 2)
        return KL_OK;
    /* As OTLP says: of the refusals only these are worth another try. */
    return kl_fail(err, q.status == 429 || q.status == 502 || q.status == 503 || q.status == 504 ? KL_EAGAIN : KL_EIO,
                   "the collector answered %u: %.200s", q.status, q.words);
}

static void make_tracer(struct app *a)
{
    const char *url = kl_config_text(a->begun_with, "trace.otlp_url");

    kl_app_trace_metrics(a->app.metrics);
    if (url == NULL || url[0] == '\0')
        return;
    a->post = kl_http_client_new(&(struct kl_http_client_options){
        .ca_file = kl_config_text(a->begun_with, "trace.ca.file"),
        .token_file = kl_config_text(a->begun_with, "trace.token.file") });
    snprintf(a->instance, sizeof a->instance, "%.200s/%s", a->hostname, a->listen);
    a->app.tracer = kl_app_tracer_new(&(struct kl_app_trace_options){
        .from = { .service = a->app.name, .version = KL_APP_VERSION, .host = a->hostname,
                  .instance = a->instance },
        .one_in = (uint64_t)kl_config_int(a->begun_with, "trace.sample_one_in"),
        .queue = (unsigned)kl_config_int(a->begun_with, "trace.queue"),
        .send = post_spans, .ctx = a, .log = a->app.log, .metrics = a->app.metrics });
}

/* A thread of the server runs the small things that a request asks of our loops itself. */
static void enter(void *ctx) { ((struct kl_env_sched *)ctx)->enter(ctx); }
static void leave(void *ctx) { ((struct kl_env_sched *)ctx)->leave(ctx); }

static void make_server(struct app *a, const char *default_listen)
{
    const struct kl_config *c = a->begun_with;
    const char *listen = kl_config_text(c, "listen"), *logs = kl_config_text(c, "log.requests");

    a->listen = kl_strdup(listen != NULL ? listen : default_listen);
    make_tracer(a);
    a->app.http = kl_http_server_new(&(struct kl_http_options){
        .listen = a->listen, .threads = (unsigned)kl_config_int(c, "http.threads"),
        .connections_max = (unsigned)kl_config_int(c, "http.connections_max"),
        .idle_timeout_s = (unsigned)(kl_config_int(c, "http.idle_timeout") / 1000),
        .buffered_bytes_max = (size_t)kl_config_int(c, "http.buffered_bytes_max"),
        .log = &a->log.log, .metrics = a->app.metrics, .tracer = a->app.tracer,
        .logs = strcmp(logs, "all") == 0 ? KL_HTTP_LOG_ALL
              : strcmp(logs, "errors") == 0 ? KL_HTTP_LOG_ERRORS : KL_HTTP_LOG_NONE });
    kl_http_around(a->app.http, &(struct kl_http_around){ .before = enter, .after = leave,
                                                          .ctx = a->app.env->sched });
}

/* What one thread frees another shall find: with an arena a thread, as is usual, the memory of a series
 * that a worker restored would not be used again by the loop that goes on with it. */
static void share_memory(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    mallopt(M_ARENA_MAX, cores > 7 ? (int)(cores / 4) : 1);
}

/* Who keeps nothing in folders is not to hold their keys, though the configuration that all share names them. */
static bool keeps_something(const char *name)
{
    return strcmp(name, "doorman") != 0 && strcmp(name, "koalemos cluster") != 0 && strcmp(name, "koalemos overrides") != 0;
}

static enum kl_code read_list(const struct kl_config *c, const char *file_option, const char *command_option,
                              struct kl_keys **keys, struct kl_err *err)
{
    const char *file = kl_config_text(c, file_option), *command = kl_config_text(c, command_option);

    if (file != NULL && kl_keys_read(file, keys, err) != KL_OK)
        return kl_within(err, "%s", file_option);
    if (command != NULL && kl_keys_run(command, keys, err) != KL_OK)
        return kl_within(err, "%s", command_option);
    return KL_OK;
}

static enum kl_code read_keys(struct app *a, bool is_server, struct kl_err *err)
{
    char id[KL_KEY_ID_TEXT];

    if (!keeps_something(a->app.name))
        return KL_OK;
    if (read_list(a->config, "encryption.keys.file", "encryption.keys.command", &a->app.keys, err) != KL_OK ||
        read_list(a->config, "store.encryption_key.file", "store.encryption_key.command", &a->app.store_key, err) != KL_OK)
        return err->code;
    if (kl_keys_count(a->app.store_key) > 1)
        return kl_fail(err, KL_EINVAL, "store.encryption_key: one key is wanted; `koalemos rekey` changes it");
    if (a->app.keys != NULL && is_server) {
        kl_hex(kl_keys_id(a->app.keys, 0), KL_KEY_ID, id);
        kl_logf(a->app.log, KL_INFO, "folders are encrypted by the key %s%s", id,
                kl_keys_count(a->app.keys) > 1 ? "; others are there for what is older" : "");
    }
    return KL_OK;
}

struct kl_app *kl_app_open(const char *name, int argc, char **argv, int first,
                           const char *default_listen, int *status)
{
    struct flags      f = { 0 };
    struct kl_config *config = NULL;
    struct kl_err     err;
    struct app       *a = NULL;
    bool              is_server;
    enum kl_code      code = read_flags(argc, argv, first, &f, &err);

    *status = 0;
    if (code == KL_OK && f.help) {
        print_help(name);
    } else if (code == KL_OK && f.version) {
        printf("%s %s\n", name, KL_APP_VERSION);
    } else if (code == KL_OK && (code = load(&f, &config, &err)) == KL_OK) {
        if (f.print) {
            struct kl_buf b = { 0 };
            kl_config_print(config, &b);
            printf("%.*s", (int)b.size, b.at);
            kl_buf_deinit(&b);
            kl_config_free(config);
        } else {
            share_memory();
            is_server = strcmp(default_listen, KL_APP_TOOL) != 0;
            block_signals(is_server);
            a = kl_new(sizeof *a);
            a->begun_with = config;
            a->config = kl_config_ref(config);
            a->file = f.config != NULL ? kl_strdup(f.config) : NULL;
            a->app.name = name;
            if (gethostname(a->hostname, sizeof a->hostname - 1) != 0)
                a->hostname[0] = '\0';
            if (getcwd(a->folder, sizeof a->folder) == NULL)
                a->folder[0] = '\0';
            a->app.hostname = a->hostname;
            a->app.folder = a->folder;
            a->argc = argc;
            a->argv = argv;
            a->first = first;
            a->app.config = config;
            a->app.live = kl_env_live_new(config);
            kl_app_log_init(&a->log, name);
            kl_app_log_configure(&a->log, config);
            a->app.log = &a->log.log;
            code = read_keys(a, is_server, &err);      /* a command can be run now, and not later */
            if (code == KL_OK && is_server)
                code = kl_app_sandbox(a, &err);
            a->app.metrics = kl_metrics_new();
            a->app.env = kl_env_real_new(0);
            a->started_ms = kl_env_now_ms(a->app.env);
            kl_app_reloads_begin(a);
            raise_file_limit(a);
            if (pipe2(a->wake, O_CLOEXEC | O_NONBLOCK) != 0)
                abort();                               /* a process without two descriptors */
            make_server(a, default_listen);
            kl_app_routes(a);
        }
    }
    if (code != KL_OK) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        *status = 2;
        if (a != NULL)
            kl_app_close(&a->app);
        a = NULL;
    }
    for (unsigned i = 0; i < f.count; i++)
        free(f.args[i]);
    return a == NULL ? NULL : &a->app;
}

/* ---- run ---- */

/* Whole pages of free memory go back to the system: a snapshot, a cut or a large query leaves many, and malloc
 * returns by itself only what lies at a heap's end. Allocations of other threads wait while it runs. */
static void give_back(struct app *a)
{
    int64_t begin = kl_env_mono_ns(a->app.env);

    malloc_trim(0);
    kl_logf(a->app.log, KL_DEBUG, "unused memory given back in %.1f ms", (double)(kl_env_mono_ns(a->app.env) - begin) / 1e6);
}

/* Until a signal or /-/quit says so; SIGHUP is read on the way. */
static void wait_for_the_end(struct app *a)
{
    struct signalfd_siginfo info;
    sigset_t      set;
    struct pollfd fds[2];
    char          words[KL_ERR_TEXT_MAX];
    bool          ends = false;
    unsigned      idle = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    fds[0] = (struct pollfd){ .fd = signalfd(-1, &set, SFD_CLOEXEC), .events = POLLIN };
    fds[1] = (struct pollfd){ .fd = a->wake[0], .events = POLLIN };
    while (!ends) {
        int ready;

        while ((ready = poll(fds, 2, LOOK_MS)) < 0 && errno == EINTR) { }
        if (ready == 0) {
            kl_app_tell_ready(a);
            idle++;
            if (idle % WATCH_LOOKS == 0) {
                pthread_mutex_lock(&a->reloads.lock);  /* a server's thread may be at it */
                kl_app_secure_watch(a);
                pthread_mutex_unlock(&a->reloads.lock);
            }
            if (idle % GIVE_BACK_LOOKS == 0)
                give_back(a);
        } else if (fds[0].revents == 0) {
            kl_logf(a->app.log, KL_INFO, "asked to quit: stopping");
            ends = true;
        } else if (read(fds[0].fd, &info, sizeof info) == sizeof info) {
            ends = info.ssi_signo != SIGHUP;
            if (ends)
                kl_logf(a->app.log, KL_INFO, "%s: stopping", strsignal((int)info.ssi_signo));
            else
                (void)kl_app_reload(a, words, sizeof words);   /* which says what came of it */
        }
    }
    close(fds[0].fd);
    sigdelset(&set, SIGHUP);
    sigprocmask(SIG_UNBLOCK, &set, NULL);              /* from now on a second signal kills */
}

int64_t kl_app_drain_ms(struct kl_app *app)
{
    struct kl_config *c = kl_env_live_get(app->live);
    int64_t           ms = kl_config_int(c, "http.drain");

    kl_config_free(c);
    return ms;
}

int kl_app_run(struct kl_app *app)
{
    struct app   *a = (struct app *)app;
    struct kl_err err;
    const char   *colon = strrchr(a->listen, ':');

    if (kl_app_secure(app, &err) != KL_OK)
        return kl_app_failed(app, &err);
    kl_app_last_routes(a);
    if (kl_http_server_start(app->http, &err) != KL_OK) {
        size_t n = strlen(err.text);

        snprintf(err.text + n, sizeof err.text - n, " (--listen takes another; port 0 is any that is free)");
        return kl_app_failed(app, &err);
    }
    atomic_store(&a->running, true);
    kl_logf(app->log, KL_INFO, "listening on http%s://%.*s:%u", app->tls != NULL ? "s" : "",
            colon != NULL ? (int)(colon - a->listen) : 0, a->listen, kl_http_server_port(app->http));
    wait_for_the_end(a);
    atomic_store(&a->running, false);
    kl_http_server_stop(app->http, kl_app_drain_ms(app));
    return 0;
}

void kl_app_close(struct kl_app *app)
{
    struct app *a = (struct app *)app;

    kl_http_server_free(app->http);
    kl_app_tracer_free(app->tracer, TRACE_LEAVES_MS);  /* by now nobody has a span to end */
    kl_http_client_free(a->post);
    kl_app_secure_close(a);
    kl_env_real_free(app->env);
    kl_metrics_free(app->metrics);
    kl_app_reloads_end(a);
    kl_env_live_free(app->live);
    kl_keys_unref(app->keys);
    kl_keys_unref(app->store_key);
    kl_config_free(a->config);
    kl_config_free(a->begun_with);
    free(a->file);
    close(a->wake[0]);
    close(a->wake[1]);
    free(a->listen);
    free(a);
}

int kl_app_failed(struct kl_app *app, const struct kl_err *err)
{
    kl_logf(app->log, KL_ERROR, "%s", err->text);
    return 1;
}
