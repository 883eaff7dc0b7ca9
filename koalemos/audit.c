/* `koalemos audit verify DIR`: whether the audit logs in a folder are whole, and what was last in them. */
#include "koalemos/secure.h"

#include "libkoal/app/app.h"
#include "libkoal/auth/audit.h"
#include "libkoal/crypt/crypt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos audit verify DIR [--name NAME] [--key-file FILE] [--holds HASH] [--partial]\n"
    "\n"
    "  Reads every record of the audit log in DIR (what audit.dir names, or audit in serve's data-dir).\n"
    "  Exit status: 0 nothing was changed, taken out or cut off; 1 something was, or it could not be told;\n"
    "  2 the command is not understood.\n"
    "  --name      of the process that wrote it: koalemos-serve (the default), doorman, ingestor, querier\n"
    "  --key-file  what audit.key.file named when it was written\n"
    "  --holds     a hash that a record must have: one that was kept elsewhere\n"
    "  --partial   the oldest files may have been taken away\n";

int koalemos_audit(int argc, char **argv, int first)
{
    const char *folder = NULL, *name = "koalemos-serve", *key_file = NULL, *holds = NULL;
    bool        partial = false;
    char       *key = NULL, last[65];
    size_t      key_size = 0;
    uint64_t    count;
    struct kl_err err;
    enum kl_code  code = KL_OK;

    for (int i = first; i < argc; i++) {
        const char *a = argv[i], **to = strcmp(a, "--name") == 0 ? &name : strcmp(a, "--key-file") == 0 ? &key_file
                                      : strcmp(a, "--holds") == 0 ? &holds : NULL;

        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (to != NULL && i + 1 < argc)
            *to = argv[++i];
        else if (strcmp(a, "--partial") == 0)
            partial = true;
        else if (i == first && strcmp(a, "verify") == 0)
            ;
        else if (a[0] != '-' && folder == NULL && i > first)
            folder = a;
        else {
            fprintf(stderr, "koalemos audit: \"%.80s\" is not understood\n%s", a, usage);
            return 2;
        }
    }
    if (folder == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    if (key_file != NULL)
        code = kl_app_secret_read(key_file, &key, &key_size, &err);
    if (code == KL_OK)
        code = kl_audit_verify(folder, name, kl_span(key, key_size), partial, holds, &count, last, &err);
    if (key != NULL)
        kl_wipe(key, key_size);
    free(key);
    if (code != KL_OK) {
        fprintf(stderr, "koalemos audit: %s\n", err.text);
        return 1;
    }
    printf("%" PRIu64 " records, last hash %s\n", count, last);
    return 0;
}
