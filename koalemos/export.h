#ifndef KOALEMOS_EXPORT_H
#define KOALEMOS_EXPORT_H
/* `koalemos export` */
int koalemos_export(int argc, char **argv, int first);
#endif
