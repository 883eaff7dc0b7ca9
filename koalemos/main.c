/*
 * koalemos: the command line. A main.c is where the environment is chosen.
 */
#include "koalemos/backup.h"
#include "koalemos/catalog.h"
#include "koalemos/cluster.h"
#include "koalemos/config.h"
#include "koalemos/export.h"
#include "koalemos/import.h"
#include "koalemos/overrides.h"
#include "koalemos/secure.h"
#include "koalemos/serve.h"
#include "koalemos/tool.h"
#include "libkoal/app/app.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: koalemos COMMAND [flags]\n"
    "\n"
    "  serve     doorman, ingestor and querier in one process, on one port, over a folder\n"
    "            koalemos serve --data-dir DIR [--listen 127.0.0.1:4480] [--config FILE]\n"
    "  inspect   what the filesets below a folder hold, and what they cost\n"
    "  verify    every checksum of every fileset below a folder\n"
    "  catalog   rebuild: the catalogue made anew from the object storage alone\n"
    "  cluster   init: makes the log's streams in NATS; status: who is in the cell and has what; split: twice the partitions;\n"
    "            drain, keep, leave, remove: ingestors that go; repair: one that differs\n"
    "  overrides get, set, history, rollback, forget: what is said of a tenant while services run\n"
    "  check-config   whether files are configurations; where they are wrong if not\n"
    "  config    schema: the configuration's JSON schema; page: every option there is\n"
    "  key       new, list, revoke: API keys, in the file that auth.keys.file names\n"
    "  encrypt   what lies in a folder, by the first of encryption.keys; which files are not\n"
    "  rekey     another key for an object storage whose objects are encrypted\n"
    "  audit     verify: whether the log of orders and refusals is whole\n"
    "  import    blocks of Prometheus, Thanos or Mimir, from a folder or S3\n"
    "  export    a server's samples, as JSON lines, CSV or OpenMetrics\n"
    "  backup    what the object storage has, into a folder or S3, beside servers that run\n"
    "  restore   a backup, into an empty place\n"
    "\n"
    "`koalemos COMMAND --help` lists every flag of a command.\n";

int main(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "serve") == 0)
        return koalemos_serve(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "inspect") == 0)
        return koalemos_inspect(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "verify") == 0)
        return koalemos_verify(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "catalog") == 0)
        return koalemos_catalog(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "import") == 0)
        return koalemos_import(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "export") == 0)
        return koalemos_export(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "backup") == 0)
        return koalemos_backup(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "restore") == 0)
        return koalemos_restore(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "cluster") == 0)
        return koalemos_cluster(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "overrides") == 0)
        return koalemos_overrides(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "check-config") == 0)
        return koalemos_check_config(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "config") == 0)
        return koalemos_config(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "key") == 0)
        return koalemos_key(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "rekey") == 0)
        return koalemos_rekey(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "encrypt") == 0)
        return koalemos_encrypt(argc, argv, 2);
    if (argc >= 2 && strcmp(argv[1], "audit") == 0)
        return koalemos_audit(argc, argv, 2);
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        puts("koalemos " KL_APP_VERSION);
        return 0;
    }
    if (argc >= 2)
        fprintf(stderr, "koalemos: there is no command \"%s\"\n", argv[1]);
    fputs(usage, stderr);
    return 2;
}
