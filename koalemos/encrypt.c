/*
 * `koalemos encrypt DIR`: what lies in a folder is encrypted by the first of encryption.keys: what was plain, and
 * what was by another key. `--list` says what would be, and changes nothing; `--plain` is the way back.
 */
#include "koalemos/secure.h"

#include "libkoal/app/app.h"
#include "libkoal/base/hex.h"
#include "libkoal/crypt/vault.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos encrypt DIR --encryption.keys.file FILE [--list | --plain] [--config FILE]\n"
    "\n"
    "  Writes each file below DIR anew that is not encrypted by the first key of FILE: those that are not encrypted,\n"
    "  and those that are by another key of it. No process may use DIR meanwhile; what was ended in the middle is\n"
    "  taken up by the same command. (An object storage in S3, or one of store.encryption_key.file: `rekey`.)\n"
    "  --list    names each such file, says by which key it is, and changes nothing; a process may use DIR\n"
    "  --plain   the other way: nothing in DIR is encrypted any more\n"
    "Exit status: 0 all is well (of --list: no such file); 1 it is not, with words; 2 wrong usage.\n";

struct encrypt {
    struct kl_app *app;
    const char    *path;
    bool           list, plain;
    uint64_t       count, bytes, others;
};

static void see(void *ctx, const struct kl_vault_file *f)
{
    struct encrypt *x = ctx;
    char            id[KL_KEY_ID_TEXT];

    x->count++;
    x->bytes += f->size_bytes;
    if (f->size_bytes == 0 || (f->encrypted && memcmp(f->id, kl_keys_id(x->app->keys, 0), KL_KEY_ID) == 0))
        return;
    x->others++;
    kl_hex(f->id, KL_KEY_ID, id);
    printf("%s\t%s%s\n", f->path, f->encrypted ? id : "not encrypted",
           f->encrypted && kl_keys_find(x->app->keys, f->id) == NULL ? ", a key that is not among ours" : "");
}

static void told(void *ctx, const char *path, const struct kl_err *failed)
{
    (void)ctx;
    if (failed != NULL)
        printf("%s is left as it is: %s\n", path, failed->text);
}

static enum kl_code run(struct encrypt *x, struct kl_err *err)
{
    struct kl_vault_change c = { .keys = x->plain ? NULL : x->app->keys, .old = x->app->keys, .told = told, .ctx = x };
    struct kl_env_dir     *raw;
    enum kl_code           code;

    if (kl_env_dir_real_open(x->path, false, &raw, err) != KL_OK)
        return err->code;
    if (x->list) {
        code = kl_vault_each(raw, see, x, err);
    } else if ((code = raw->lock(raw, err)) != KL_OK) {
        kl_within(err, "nobody may use %s meanwhile", x->path);
    } else {
        code = kl_vault_rewrite(raw, &c, err);
        printf("%" PRIu64 " files were written anew, %" PRIu64 " bytes; %" PRIu64 " could not be read\n", c.changed, c.bytes,
               c.failed);
    }
    raw->leave(raw);
    if (code == KL_OK && x->list)
        printf("%" PRIu64 " of %" PRIu64 " files are not encrypted by the first key\n", x->others, x->count);
    return code;
}

int koalemos_encrypt(int argc, char **argv, int first)
{
    struct encrypt x = { 0 };
    struct kl_err  err;
    int            rest = first, status;

    for (int i = first; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--list") == 0)
            x.list = true;
        else if (strcmp(argv[i], "--plain") == 0)
            x.plain = true;
        else if (i == first && argv[i][0] != '-')
            x.path = argv[i];
        else
            argv[rest++] = argv[i];                    /* for kl_app_open */
    }
    if (x.path == NULL || (x.list && x.plain)) {
        fputs(usage, stderr);
        return 2;
    }
    x.app = kl_app_open("koalemos encrypt", rest, argv, first, KL_APP_TOOL, &status);
    if (x.app == NULL)
        return status;
    if (x.app->keys == NULL) {
        fprintf(stderr, "koalemos encrypt: say by which keys: --encryption.keys.file FILE\n");
        kl_app_close(x.app);
        return 2;
    }
    status = run(&x, &err) == KL_OK ? x.list && x.others > 0 : kl_app_failed(x.app, &err);
    kl_app_close(x.app);
    return status;
}
