#ifndef KOALEMOS_IMPORT_H
#define KOALEMOS_IMPORT_H
/* `koalemos import` */
int koalemos_import(int argc, char **argv, int first);
#endif
