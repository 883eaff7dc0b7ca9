/* What guards the listeners: keys, certificates, and the record of what was ordered and refused. */
#include "libkoal/app/app_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SECRET_MAX = 4096 };

static int64_t now_ms(void *ctx)
{
    struct timespec t;

    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

enum kl_code kl_app_secret_read(const char *path, char **bytes, size_t *size, struct kl_err *err)
{
    int     fd = open(path, O_RDONLY | O_CLOEXEC);
    char   *at = kl_new(SECRET_MAX + 1);
    ssize_t n = fd >= 0 ? read(fd, at, SECRET_MAX + 1) : -1;
    int     why = errno;

    if (fd >= 0)
        close(fd);
    while (n > 0 && n <= SECRET_MAX && (at[n - 1] == '\n' || at[n - 1] == '\r'))
        n--;
    if (n > 0 && n <= SECRET_MAX) {
        at[n] = '\0';
        *bytes = at;
        *size = (size_t)n;
        return KL_OK;
    }
    kl_wipe(at, SECRET_MAX + 1);
    free(at);
    return n < 0 ? kl_fail(err, why == ENOENT ? KL_ENOENT : KL_EIO, "%s: %s", path, strerror(why))
                 : kl_fail(err, KL_EINVAL, "%s: a secret of 1 to %d bytes is wanted", path, SECRET_MAX);
}

static enum kl_code open_audit(struct app *a, struct kl_err *err)
{
    const struct kl_config *c = a->app.config;
    const char *folder = kl_config_text(c, "audit.dir"), *key = kl_config_text(c, "audit.key.file");
    struct kl_audit_options o = { .folder = folder, .name = a->app.name, .log = a->app.log };
    char       *secret = NULL;
    size_t      size = 0;
    char        own[4200];

    if (folder == NULL || folder[0] == '\0') {
        if (a->app.audit_in == NULL)
            return KL_OK;
        snprintf(own, sizeof own, "%s/audit", a->app.audit_in);
        o.folder = own;
    }
    if (key != NULL && key[0] != '\0' && kl_app_secret_read(key, &secret, &size, err) != KL_OK)
        return kl_within(err, "audit.key.file");
    o.key = kl_span(secret, size);
    (void)kl_audit_open(&o, &a->audit, err);
    if (secret != NULL)
        kl_wipe(secret, size);
    free(secret);
    return a->audit != NULL ? KL_OK : err->code;
}

static enum kl_code open_tls(struct app *a, struct kl_err *err)
{
    const struct kl_config     *c = a->app.config;
    const struct kl_tls_options o = { .cert_file = kl_config_text(c, "tls.cert.file"),
                                      .key_file = kl_config_text(c, "tls.key.file"),
                                      .client_ca_file = kl_config_text(c, "tls.client_ca.file"),
                                      .metrics = a->app.metrics };

    if ((o.cert_file == NULL || o.cert_file[0] == '\0') && (o.key_file == NULL || o.key_file[0] == '\0') &&
        (o.client_ca_file == NULL || o.client_ca_file[0] == '\0'))
        return KL_OK;
    if (kl_tls_open(&o, &a->app.tls, err) != KL_OK)
        return err->code;
    kl_http_tls(a->app.http, a->app.tls);
    return KL_OK;
}

enum kl_code kl_app_secure(struct kl_app *app, struct kl_err *err)
{
    struct app *a = (struct app *)app;
    const struct kl_auth_options o = { .keys_file = kl_config_text(app->config, "auth.keys.file"),
                                       .rate = (uint32_t)kl_config_int(app->config, "auth.rate"), .now_ms = now_ms,
                                       .log = app->log, .metrics = app->metrics };

    if (a->auth != NULL)
        return KL_OK;
    if (open_tls(a, err) != KL_OK)
        return err->code;
    if (kl_auth_open(&o, &a->auth, err) != KL_OK || open_audit(a, err) != KL_OK)
        return err->code;
    kl_auth_audit(a->auth, a->audit);
    app->guard = kl_auth_guard(a->auth);
    kl_http_guard(app->http, app->guard);
    return KL_OK;
}

enum kl_code kl_app_secure_reload(struct app *a, struct kl_err *err)
{
    enum kl_code  of_keys, of_tls = KL_OK;
    struct kl_err tls_err;
    bool          keys = false, tls = false;

    if (a->auth == NULL)
        return KL_OK;
    of_keys = kl_auth_reload(a->auth, &keys, err);
    if (a->app.tls != NULL)
        of_tls = kl_tls_reload(a->app.tls, &tls, &tls_err);
    if (keys)
        kl_logf(a->app.log, KL_INFO, "auth.keys.file was read anew");
    if (tls)
        kl_logf(a->app.log, KL_INFO, "tls.cert.file and its fellows were read anew");
    if (of_keys == KL_OK && of_tls != KL_OK)
        *err = tls_err;
    else if (of_tls != KL_OK)
        kl_within(err, "%s; besides", tls_err.text);
    return of_keys != KL_OK ? of_keys : of_tls;
}

void kl_app_secure_watch(struct app *a)
{
    struct kl_err err;

    if (kl_app_secure_reload(a, &err) == KL_OK)
        err.text[0] = '\0';
    else if (strcmp(err.text, a->secure_said) != 0)
        kl_logf(a->app.log, KL_ERROR, "%s; what was read before stays in force", err.text);
    strcpy(a->secure_said, err.text);
}

void kl_app_secure_close(struct app *a)
{
    if (a->auth != NULL)
        kl_auth_audit(a->auth, NULL);
    kl_audit_close(a->audit);
    kl_auth_close(a->auth);
    kl_tls_close(a->app.tls);
}

/* ---- what no row of the options can say ---- */

enum kl_code kl_app_secure_check(const struct kl_config *c, struct kl_err *err)
{
    static const char *const listeners[] = { "listen", "otlp.grpc_listen" };
    const char *keys = kl_config_text(c, "auth.keys.file");
    char        where[300];

    for (size_t i = 0; i < 2; i++) {
        const char *listen = kl_config_text(c, listeners[i]);

        if (listen == NULL || listen[0] == '\0' || kl_http_listen_check(listen, err) == KL_OK)
            continue;
        kl_config_where(c, listeners[i], where, sizeof where);
        return kl_within(err, "%s", where);
    }
    if ((keys != NULL && keys[0] != '\0') || kl_config_bool(c, "auth.anonymous"))
        return KL_OK;
    for (size_t i = 0; i < 2; i++) {
        const char *listen = kl_config_text(c, listeners[i]);

        if (listen == NULL || listen[0] == '\0' || kl_http_listens_locally(listen))
            continue;
        kl_config_where(c, listeners[i], where, sizeof where);
        return kl_fail(err, KL_EINVAL, "%s: %s is %s, which other machines reach, and nobody is asked for a key: "
                       "name a file of keys in auth.keys.file, or set auth.anonymous to true if whoever reaches it "
                       "may read, write and delete everything", where, listeners[i], listen);
    }
    return KL_OK;
}
