/*
 * `koalemos rekey NEW`: the object storage, encrypted by the key that store.encryption_key.file names, opens
 * from now on with that in the file NEW. Services that run have it open, and go on; they start anew with NEW.
 */
#include "koalemos/secure.h"

#include "libkoal/app/app.h"
#include "libkoal/store/options.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos rekey NEW-KEY-FILE --store.encryption_key.file OLD [--config FILE] [--store.dir DIR]\n"
    "\n"
    "  Wraps the store's own key anew; no other object is written. (The store of `serve` without store.url:\n"
    "  --store.dir DATA-DIR/store.) Then name NEW in the configuration: services read it when they start.\n";

int koalemos_rekey(int argc, char **argv, int first)
{
    struct kl_err  err;
    struct kl_app *app;
    int            status;

    if (argc <= first || strncmp(argv[first], "-", 1) == 0) {
        bool help = argc > first && (strcmp(argv[first], "--help") == 0 || strcmp(argv[first], "-h") == 0);

        fputs(usage, help ? stdout : stderr);
        return help ? 0 : 2;
    }
    app = kl_app_open("koalemos rekey", argc, argv, first + 1, KL_APP_TOOL, &status);
    if (app == NULL)
        return status;
    status = kl_store_rewrap(&(struct kl_store_place){ .env = app->env, .config = app->config, .writes = true,
                                                       .keys = app->keys, .store_key = app->store_key,
                                                       .log = app->log }, argv[first], &err) == KL_OK
             ? 0 : kl_app_failed(app, &err);
    if (status == 0)
        printf("the store opens with the key in %s\n", argv[first]);
    kl_app_close(app);
    return status;
}
