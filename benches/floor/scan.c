// The floor: read blocks, split lines, find a field, walk to its closing quote, copy the line.
// What any filter of JSON lines has to do at the least; it judges nothing.
//
//     cc -O3 -march=native -o scan scan.c && ./scan INPUT OUTPUT

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, LONGEST_LINE = 16 << 20 };

static const char KEY[] = "\"completion\": \"";

// The closing quote of the string that starts at `value`, or NULL.
static const char *closing_quote(const char *value, const char *end) {
    for (const char *quote = value; (quote = memchr(quote, '"', end - quote)); quote++) {
        size_t backslashes = 0;
        while (quote - backslashes > value && quote[-1 - (ptrdiff_t)backslashes] == '\\')
            backslashes++;
        if (backslashes % 2 == 0)
            return quote;
    }
    return NULL;
}

static void write_all(int file, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(file, bytes, size);
        if (written < 0)
            err(2, "write");
        bytes += written;
        size -= written;
    }
}

int main(int argc, char **argv) {
    if (argc != 3)
        errx(2, "usage: scan INPUT OUTPUT");
    int in = open(argv[1], O_RDONLY);
    int out = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    char *block = malloc(BLOCK + LONGEST_LINE), *kept = malloc(BLOCK + LONGEST_LINE);
    if (in < 0 || out < 0 || !block || !kept)
        err(2, "%s, %s", argv[1], argv[2]);
    size_t carried = 0, waiting = 0;
    ssize_t got;
    while ((got = read(in, block + carried, BLOCK)) > 0) {
        const char *line = block, *end = block + carried + got, *newline;
        while ((newline = memchr(line, '\n', end - line))) {
            const char *key = memmem(line, newline - line, KEY, sizeof KEY - 1);
            if (key && closing_quote(key + sizeof KEY - 1, newline)) {
                size_t size = newline + 1 - line;
                if (waiting + size > BLOCK) {
                    write_all(out, kept, waiting);
                    waiting = 0;
                }
                memcpy(kept + waiting, line, size);
                waiting += size;
            }
            line = newline + 1;
        }
        carried = end - line;
        if (carried > LONGEST_LINE)
            errx(2, "a line is too long");
        memmove(block, line, carried);
    }
    write_all(out, kept, waiting);
    return got < 0 || close(out) < 0;
}
