#ifndef KOALEMOS_CATALOG_H
#define KOALEMOS_CATALOG_H
/* `koalemos catalog rebuild` */
int koalemos_catalog(int argc, char **argv, int first);
#endif
