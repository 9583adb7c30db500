/* The least that receiving can cost: a C program that blocks in recv.
 *
 *     blocking PORT WARM TICKS
 *
 * Subscribes to one symbol, then reads trades whose "v" is the monotonic time of their
 * write, and prints median and 99th percentile of their way here, and the CPU time of
 * one, in nanoseconds. It reads no more of a trade than that number.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char HELLO[] =
    "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
static const char COMMAND[] = "{\"type\":\"T\",\"codes\":[\"US:TSLA\"],\"reqid\":1}";

static char buffer[1 << 20];
static size_t begin, end;

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void more(int link) {
    memmove(buffer, buffer + begin, end - begin);
    end -= begin;
    begin = 0;
    ssize_t got = recv(link, buffer + end, sizeof buffer - 1 - end, 0);
    must(got > 0, "recv");
    end += (size_t)got;
    buffer[end] = 0;
}

/* Frames here are under 126 bytes. */
static const char *next_frame(int link) {
    while (end - begin < 2 || end - begin < 2 + (size_t)(unsigned char)buffer[begin + 1])
        more(link);
    const char *payload = buffer + begin + 2;
    begin += 2 + (size_t)(unsigned char)buffer[begin + 1];
    return payload;
}

static long long monotonic(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1e9 +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e3;
}

static int compare(const void *one, const void *other) {
    long long a = *(const long long *)one, b = *(const long long *)other;
    return (a > b) - (a < b);
}

int main(int count, char **words) {
    must(count == 4, "usage: blocking PORT WARM TICKS");
    long warm = atol(words[2]), ticks = atol(words[3]);
    long long *waits = malloc((size_t)ticks * sizeof *waits);
    must(waits != NULL, "malloc");

    int link = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((unsigned short)atoi(words[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(!connect(link, (struct sockaddr *)&address, sizeof address), "connect");
    setsockopt(link, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);

    must(send(link, HELLO, sizeof HELLO - 1, 0) > 0, "send");
    char *stop;
    do
        more(link);
    while (!(stop = strstr(buffer, "\r\n\r\n")));
    begin = (size_t)(stop + 4 - buffer);

    unsigned char frame[128] = {0x81, 0x80 | (sizeof COMMAND - 1)}; /* Mask 0. */
    memcpy(frame + 6, COMMAND, sizeof COMMAND - 1);
    must(send(link, frame, 6 + sizeof COMMAND - 1, 0) > 0, "send");
    next_frame(link);

    for (long i = 0; i < warm; i++)
        next_frame(link);
    double spent = cpu();
    for (long i = 0; i < ticks; i++) {
        const char *stamp = strstr(next_frame(link), "\"v\":\"");
        must(stamp != NULL, "a frame without a stamp");
        waits[i] = monotonic() - atoll(stamp + 5);
    }
    spent = cpu() - spent;

    qsort(waits, (size_t)ticks, sizeof *waits, compare);
    long last = (ticks * 99 + 99) / 100 - 1;
    printf("{\"p50\": %lld, \"p99\": %lld, \"cpu\": %.1f}\n", waits[ticks / 2],
           waits[last], spent / (double)ticks);
    close(link);
    return 0;
}
