/*
 * Lines between network namespaces: what one host sends to another is held for a while, lost, doubled, put out of order,
 * slowed down or swallowed, as told. The TCP above it is the kernel's.
 *
 *   wan run HOST...        makes a namespace with a TUN device for each HOST (the one called `here` is the caller's own
 *                          namespace), all in one subnet, and carries IPv4 packets between them until stdin ends.
 *   wan enter PID FD COMMAND...   runs COMMAND in the namespace that process PID holds as FD; it dies with its parent.
 *
 * The first line on stdout is `ready HOST=ADDRESS=FD ...`. Each line on stdin has one line as its answer, `ok ...` or `error ...`:
 *
 *   set FROM TO [delayUs=N] [jitterUs=N] [lossPpm=N] [doublePpm=N] [reorderPpm=N] [bytesPerSecond=N] [queueUs=N] [blocked=0|1] [seed=N]
 *                          one direction; what is not named stays. A reordered packet is not delayed at all.
 *   sever A B              TCP connections between A and B that were seen so far are silent from now on; new ones work.
 *   stats FROM TO          `ok PACKETS BYTES LOST`
 *
 * N1  The namespaces have no names. They, their devices and their addresses go with the last process that holds them,
 *     however it ends, so nothing is left over and nothing needs to be cleaned up.
 * N2  Every packet of a direction draws the same number of random words from the direction's own generator, so that loss
 *     depends on the seed and on how many packets came before.
 * N3  Packets of a direction keep their order, jitter or not, unless reordering is asked for.
 * N4  What is held is bounded (HELD_MAX_BYTES, and the time of a slow line's queue); beyond it packets are lost.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX 32
#define NAME_MAX_BYTES 32
#define PACKET_MAX_BYTES 2048
#define HELD_MAX_BYTES (128u << 20)
#define FLOWS_MAX 65536
/* Before the kernel drops what this process has not read yet: a burst of a whole receive window. */
#define DEVICE_QUEUE_PACKETS 20000
/* 198.18.0.0/15 is set aside for measurements (RFC 2544), so no real network is hidden by it. Each run takes one /24. */
#define SUBNETS 512

struct direction {
  int64_t delay_us, jitter_us, loss_ppm, double_ppm, reorder_ppm, bytes_per_second, queue_us, blocked, seed;
  uint64_t random, packets, bytes, lost;
  int64_t last_due_us, free_at_us;
};
struct host { char name[NAME_MAX_BYTES]; int tun, ns; uint32_t address; };
struct packet { int64_t due_us; uint64_t order; int to, length; unsigned char *bytes; };
struct flow { uint32_t low, high; uint16_t low_port, high_port; char used, severed; };

static struct host hosts[HOSTS_MAX];
static int host_count = 0;
static struct direction lines[HOSTS_MAX][HOSTS_MAX];
static struct packet *heap = NULL;
static size_t held = 0, heap_room = 0, held_bytes = 0;
static uint64_t orders = 0;
static struct flow flows[FLOWS_MAX];
static int flow_count = 0;

static void die(const char *what) {
  printf("error %s: %s\n", what, strerror(errno));
  fflush(stdout);
  exit(1);
}

static int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* xorshift64*, which is good enough to lose packets by. */
static uint32_t draw(struct direction *line) {
  uint64_t x = line->random;
  x ^= x >> 12; x ^= x << 25; x ^= x >> 27;
  line->random = x;
  return (uint32_t)((x * 0x2545F4914F6CDD1DULL) >> 32);
}

static int happens(uint32_t word, int64_t ppm) {
  return (uint64_t)word * 1000000 >> 32 < (uint64_t)ppm;
}

/* What is held: a heap, the packet that is due next on top, and of those due together the one that came first. */

static int before(const struct packet *a, const struct packet *b) {
  return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void hold(struct direction *line, int to, const unsigned char *bytes, int length, int64_t due_us) {
  unsigned char *copy = held_bytes + length > HELD_MAX_BYTES ? NULL : malloc(length);
  if (copy == NULL) { line->lost += 1; return; }
  if (held == heap_room) {
    heap_room = heap_room == 0 ? 1024 : heap_room * 2;
    heap = realloc(heap, heap_room * sizeof *heap);
    if (heap == NULL) die("memory");
  }
  memcpy(copy, bytes, length);
  held_bytes += length;
  struct packet packet = { due_us, orders++, to, length, copy };
  size_t at = held++;
  for (; at > 0 && before(&packet, &heap[(at - 1) / 2]); at = (at - 1) / 2) heap[at] = heap[(at - 1) / 2];
  heap[at] = packet;
}

static struct packet next_due(void) {
  struct packet top = heap[0], last = heap[--held];
  size_t at = 0;
  for (;;) {
    size_t child = at * 2 + 1;
    if (child >= held) break;
    if (child + 1 < held && before(&heap[child + 1], &heap[child])) child += 1;
    if (!before(&heap[child], &last)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = last;
  held_bytes -= top.length;
  return top;
}

/* TCP connections by their four numbers, whichever end sends. Null for what is no TCP, and for more than are remembered. */
static struct flow *flow_of(const unsigned char *bytes, int length) {
  int head = (bytes[0] & 15) * 4;
  if (bytes[9] != IPPROTO_TCP || length < head + 20) return NULL;
  uint32_t from, to;
  uint16_t from_port, to_port;
  memcpy(&from, bytes + 12, 4); memcpy(&to, bytes + 16, 4);
  memcpy(&from_port, bytes + head, 2); memcpy(&to_port, bytes + head + 2, 2);
  struct flow key = from < to ? (struct flow){ from, to, from_port, to_port, 1, 0 } : (struct flow){ to, from, to_port, from_port, 1, 0 };
  uint32_t at = (key.low * 31 + key.high * 37 + key.low_port * 7919u + key.high_port * 104729u) % FLOWS_MAX;
  for (; flows[at].used; at = (at + 1) % FLOWS_MAX) {
    struct flow *seen = &flows[at];
    if (seen->low == key.low && seen->high == key.high && seen->low_port == key.low_port && seen->high_port == key.high_port) return seen;
  }
  if (flow_count > FLOWS_MAX / 2) return NULL;
  flow_count += 1;
  flows[at] = key;
  return &flows[at];
}

static void carry(int from, const unsigned char *bytes, int length) {
  if (length < 20 || bytes[0] >> 4 != 4) return;
  int to = bytes[19] - 1;
  if (to < 0 || to >= host_count || to == from || memcmp(bytes + 16, &hosts[to].address, 4) != 0) return;
  struct direction *line = &lines[from][to];
  /* N2 */
  uint32_t loss = draw(line), twice = draw(line), order = draw(line), jitter = draw(line);
  struct flow *flow = flow_of(bytes, length);
  line->packets += 1;
  line->bytes += length;
  if (line->blocked || (flow != NULL && flow->severed) || happens(loss, line->loss_ppm)) { line->lost += 1; return; }
  int64_t now = now_us(), due = now;
  if (line->bytes_per_second > 0) {
    if (line->free_at_us < now) line->free_at_us = now;
    if (line->free_at_us - now > line->queue_us) { line->lost += 1; return; }
    line->free_at_us += (int64_t)length * 1000000 / line->bytes_per_second;
    due = line->free_at_us;
  }
  if (happens(order, line->reorder_ppm)) hold(line, to, bytes, length, due);
  else {
    due += line->delay_us + (line->jitter_us > 0 ? jitter % line->jitter_us : 0);
    /* N3 */
    if (due < line->last_due_us) due = line->last_due_us;
    line->last_due_us = due;
    hold(line, to, bytes, length, due);
    if (happens(twice, line->double_ppm)) hold(line, to, bytes, length, due);
  }
}

/* Commands. */

static int host_named(const char *name) {
  for (int host = 0; name != NULL && host < host_count; host += 1) if (strcmp(hosts[host].name, name) == 0) return host;
  return -1;
}

static int set(struct direction *line, char *word) {
  static const struct { const char *name; size_t at; } settings[] = {
    { "delayUs", offsetof(struct direction, delay_us) }, { "jitterUs", offsetof(struct direction, jitter_us) }, { "lossPpm", offsetof(struct direction, loss_ppm) },
    { "doublePpm", offsetof(struct direction, double_ppm) }, { "reorderPpm", offsetof(struct direction, reorder_ppm) }, { "bytesPerSecond", offsetof(struct direction, bytes_per_second) },
    { "queueUs", offsetof(struct direction, queue_us) }, { "blocked", offsetof(struct direction, blocked) }, { "seed", offsetof(struct direction, seed) },
  };
  char *equals = strchr(word, '=');
  if (equals == NULL) return 0;
  *equals = 0;
  for (size_t setting = 0; setting < sizeof settings / sizeof *settings; setting += 1) {
    if (strcmp(word, settings[setting].name) != 0) continue;
    int64_t value = strtoll(equals + 1, NULL, 10);
    memcpy((char *)line + settings[setting].at, &value, sizeof value);
    if (strcmp(word, "seed") == 0) line->random = (uint64_t)value * 0x9E3779B97F4A7C15ULL + 1;
    /* What was sent when the line was longer does not hold up what is sent now. */
    if (strcmp(word, "delayUs") == 0) line->last_due_us = 0;
    return 1;
  }
  return 0;
}

static void obey(char *text) {
  char *rest = NULL, *verb = strtok_r(text, " ", &rest);
  int from = host_named(strtok_r(NULL, " ", &rest)), to = host_named(strtok_r(NULL, " ", &rest));
  if (verb == NULL || from < 0 || to < 0 || from == to) printf("error no such line\n");
  else if (strcmp(verb, "set") == 0) {
    const char *wrong = NULL;
    for (char *word = strtok_r(NULL, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) if (!set(&lines[from][to], word)) wrong = word;
    if (wrong != NULL) printf("error no such setting: %s\n", wrong);
    else printf("ok\n");
  } else if (strcmp(verb, "sever") == 0) {
    uint32_t a = hosts[from].address, b = hosts[to].address;
    int severed = 0;
    for (int at = 0; at < FLOWS_MAX; at += 1) {
      if (!flows[at].used || flows[at].severed || flows[at].low != (a < b ? a : b) || flows[at].high != (a < b ? b : a)) continue;
      flows[at].severed = 1;
      severed += 1;
    }
    printf("ok %d\n", severed);
  } else if (strcmp(verb, "stats") == 0) {
    struct direction *line = &lines[from][to];
    printf("ok %llu %llu %llu\n", (unsigned long long)line->packets, (unsigned long long)line->bytes, (unsigned long long)line->lost);
  } else printf("error no such command: %s\n", verb);
  fflush(stdout);
}

/* Namespaces and devices. */

static void configure(int control, unsigned long request, struct ifreq *device, const char *what) {
  if (ioctl(control, request, device) < 0) die(what);
}

static void bring_up(int control, const char *device) {
  struct ifreq request = { 0 };
  strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  configure(control, SIOCGIFFLAGS, &request, "flags of a device");
  request.ifr_flags |= IFF_UP | IFF_RUNNING;
  configure(control, SIOCSIFFLAGS, &request, "bringing a device up");
}

/* A TUN device in the present namespace. */
static int make_device(uint32_t address) {
  int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (tun < 0) die("/dev/net/tun");
  struct ifreq request = { 0 };
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  strncpy(request.ifr_name, "wan%d", IFNAMSIZ - 1);
  if (ioctl(tun, TUNSETIFF, &request) < 0) die("making a TUN device");
  char name[IFNAMSIZ];
  memcpy(name, request.ifr_name, IFNAMSIZ);
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control < 0) die("socket");
  struct sockaddr_in internet = { .sin_family = AF_INET, .sin_addr.s_addr = address };
  memcpy(&request.ifr_addr, &internet, sizeof internet);
  configure(control, SIOCSIFADDR, &request, "address of a device");
  internet.sin_addr.s_addr = htonl(0xffffff00);
  memcpy(&request.ifr_netmask, &internet, sizeof internet);
  configure(control, SIOCSIFNETMASK, &request, "netmask of a device");
  request.ifr_qlen = DEVICE_QUEUE_PACKETS;
  configure(control, SIOCSIFTXQLEN, &request, "queue of a device");
  bring_up(control, name);
  close(control);
  return tun;
}

/* The number of a subnet that no other run has: the name of a socket is taken as long as this process lives. */
static int take_subnet(void) {
  for (int attempt = 0; attempt < SUBNETS; attempt += 1) {
    int number = (getpid() + attempt) % SUBNETS;
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "outpost-wan-%d", number);
    int lock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (lock >= 0 && bind(lock, (struct sockaddr *)&name, offsetof(struct sockaddr_un, sun_path) + 1 + length) == 0) return number;
    if (lock >= 0) close(lock);
  }
  die("no subnet is free");
  return -1;
}

static void make_hosts(int count, char **names) {
  int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), subnet = take_subnet();
  if (home < 0) die("/proc/self/ns/net");
  for (int index = 0; index < count && index < HOSTS_MAX; index += 1) {
    struct host *host = &hosts[host_count];
    snprintf(host->name, sizeof host->name, "%s", names[index]);
    host->address = htonl(0xc6120000u + ((uint32_t)subnet << 8) + host_count + 1);
    host->ns = home;
    if (strcmp(names[index], "here") != 0) {
      if (unshare(CLONE_NEWNET) < 0) die("making a network namespace");
      host->ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
      int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      bring_up(control, "lo");
      close(control);
    }
    host->tun = make_device(host->address);
    if (setns(home, CLONE_NEWNET) < 0) die("setns");
    for (int other = 0; other < HOSTS_MAX; other += 1) {
      lines[host_count][other].random = 0x9E3779B97F4A7C15ULL * (uint64_t)(host_count * HOSTS_MAX + other + 1);
      lines[host_count][other].queue_us = 200000;
    }
    host_count += 1;
  }
  printf("ready");
  for (int host = 0; host < host_count; host += 1) printf(" %s=%s=%d", hosts[host].name, inet_ntoa((struct in_addr){ hosts[host].address }), hosts[host].ns);
  printf("\n");
  fflush(stdout);
}

static int run(int count, char **names) {
  static char input[4096];
  size_t input_length = 0;
  make_hosts(count, names);
  /* A line whose delay depends on how busy the machine is would be no line. */
  setpriority(PRIO_PROCESS, 0, -15);
  struct pollfd wait[HOSTS_MAX + 1];
  for (;;) {
    for (int host = 0; host < host_count; host += 1) wait[host] = (struct pollfd){ hosts[host].tun, POLLIN, 0 };
    wait[host_count] = (struct pollfd){ 0, POLLIN, 0 };
    int64_t in_us = held == 0 ? -1 : heap[0].due_us - now_us();
    if (held > 0 && in_us < 0) in_us = 0;
    struct timespec timeout = { in_us / 1000000, in_us % 1000000 * 1000 };
    if (ppoll(wait, host_count + 1, held == 0 ? NULL : &timeout, NULL) < 0 && errno != EINTR) die("poll");
    if (wait[host_count].revents != 0) {
      ssize_t got = read(0, input + input_length, sizeof input - 1 - input_length);
      if (got <= 0) return 0;
      input_length += got;
      input[input_length] = 0;
      char *line = input;
      for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = 0;
        obey(line);
      }
      input_length -= line - input;
      memmove(input, line, input_length);
    }
    for (int host = 0; host < host_count; host += 1) {
      unsigned char bytes[PACKET_MAX_BYTES];
      ssize_t length;
      for (int turn = 0; turn < 64 && (length = read(hosts[host].tun, bytes, sizeof bytes)) > 0; turn += 1) carry(host, bytes, (int)length);
    }
    while (held > 0 && heap[0].due_us <= now_us()) {
      struct packet packet = next_due();
      if (write(hosts[packet.to].tun, packet.bytes, packet.length) < 0 && errno == EBADFD) die("writing a packet");
      free(packet.bytes);
    }
  }
}

static int enter(const char *pid, const char *fd, char **command) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, fd);
  int ns = open(path, O_RDONLY | O_CLOEXEC);
  if (ns < 0 || setns(ns, CLONE_NEWNET) < 0) {
    fprintf(stderr, "cannot enter %s: %s\n", path, strerror(errno));
    return 1;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  execvp(command[0], command);
  fprintf(stderr, "cannot run %s: %s\n", command[0], strerror(errno));
  return 1;
}

int main(int argc, char **argv) {
  if (argc >= 3 && strcmp(argv[1], "run") == 0) return run(argc - 2, argv + 2);
  if (argc >= 5 && strcmp(argv[1], "enter") == 0) return enter(argv[2], argv[3], argv + 4);
  fprintf(stderr, "usage: wan run HOST... | wan enter PID FD COMMAND...\n");
  return 2;
}
