#ifndef KOALEMOS_BACKUP_H
#define KOALEMOS_BACKUP_H
/* `koalemos backup` and `koalemos restore` */
int koalemos_backup(int argc, char **argv, int first);
int koalemos_restore(int argc, char **argv, int first);
#endif
