/* Access keys, from files or the environment. They are told to nobody but the signature. */
#include "libkoal/store/store_s3_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The first line of a file, without what ends it. */
static enum kl_code read_line(const char *path, char *text, size_t size, struct kl_err *err)
{
    FILE  *f = fopen(path, "re");
    size_t n;
    char   more;
    bool   whole;

    if (f == NULL)
        return kl_fail(err, KL_EINVAL, "%s: %s", path, strerror(errno));
    n = fread(text, 1, size - 1, f);
    whole = fread(&more, 1, 1, f) == 0 && !ferror(f);
    fclose(f);
    text[n] = '\0';
    if (!whole)
        return kl_fail(err, KL_EINVAL, "%s: longer than a key can be", path);
    text[strcspn(text, "\r\n")] = '\0';
    for (const char *c = text; *c != '\0'; c++)
        if (*c <= ' ' || *c > '~')
            return kl_fail(err, KL_EINVAL, "%s: a key is one line of plain characters", path);
    if (text[0] == '\0')
        return kl_fail(err, KL_EINVAL, "%s: is empty", path);
    return KL_OK;
}

static enum kl_code from_environment(const char *name, bool must, char *text, size_t size,
                                     struct kl_err *err)
{
    const char *v = getenv(name);

    if (v == NULL || v[0] == '\0') {
        text[0] = '\0';
        if (must)
            return kl_fail(err, KL_EINVAL, "no keys for the S3 store: set store.s3.access_key.file and "
                           "store.s3.secret_key.file, or %s in the environment", name);
        return KL_OK;
    }
    if (strlen(v) >= size)
        return kl_fail(err, KL_EINVAL, "%s is longer than a key can be", name);
    strcpy(text, v);
    return KL_OK;
}

enum kl_code kl_s3_keys_read(const struct kl_store_s3_options *o, struct kl_store_s3_keys *k,
                             struct kl_err *err)
{
    struct kl_store_s3_keys read = { 0 };

    if (o->access_key_file == NULL && o->secret_key_file == NULL) {
        if (from_environment("AWS_ACCESS_KEY_ID", true, read.access, sizeof read.access, err) != KL_OK ||
            from_environment("AWS_SECRET_ACCESS_KEY", true, read.secret, sizeof read.secret, err) != KL_OK ||
            from_environment("AWS_SESSION_TOKEN", false, read.token, sizeof read.token, err) != KL_OK)
            return err->code;
    } else if (o->access_key_file == NULL || o->secret_key_file == NULL) {
        return kl_fail(err, KL_EINVAL, "store.s3.access_key.file and store.s3.secret_key.file belong "
                       "together, and one of them is not set");
    } else if (read_line(o->access_key_file, read.access, sizeof read.access, err) != KL_OK) {
        return kl_within(err, "store.s3.access_key.file");
    } else if (read_line(o->secret_key_file, read.secret, sizeof read.secret, err) != KL_OK) {
        return kl_within(err, "store.s3.secret_key.file");
    }
    if (o->token_file != NULL && read_line(o->token_file, read.token, sizeof read.token, err) != KL_OK)
        return kl_within(err, "store.s3.session_token.file");
    *k = read;
    return KL_OK;
}
