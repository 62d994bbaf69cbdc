/* Device nodes: an opened one is the write end of a pipe, so that poll() behaves as the kernel's usbfs does (POLLOUT
 * while a finished URB waits to be reaped, POLLERR once unplugged); the usbfs ioctls on it travel as USB/IP to the
 * server. URBs have at most 256 packets. What the shim is and how it is built stands in shim.h.
 */
#include "shim.h"

#include <arpa/inet.h>
#include <linux/usbdevice_fs.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define MAX_PACKETS 256

struct header {                                  /* USB/IP, big endian */
	uint32_t command, seq, devid, direction, ep;
	int32_t a, b, c, d, e;                       /* submit: flags, length, start, packets, interval */
	uint8_t setup[8];
} __attribute__((packed));

struct iso { uint32_t offset, length, actual; int32_t status; } __attribute__((packed));

struct pending {
	struct pending *next;
	struct usbdevfs_urb *urb;                    /* NULL: a synchronous request of our own */
	uint32_t seq, unlink_seq;
	int finished, status;
};

struct handle {
	struct handle *next;
	int node, pipe, sock, gone, marked;
	pid_t owner;
	uint32_t seq;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct pending *live, *done, **tail;
};

static struct handle *handles;
static pthread_mutex_t table = PTHREAD_MUTEX_INITIALIZER;

/* ---- connection ------------------------------------------------------------------------------------ */
static int all(int fd, void *data, size_t size, int out)
{
	for (char *p = data; size;) {
		ssize_t n = out ? send(fd, p, size, MSG_NOSIGNAL) : recv(fd, p, size, 0);
		if (n <= 0) {
			if (n < 0 && errno == EINTR)
				continue;
			return -1;
		}
		p += n, size -= n;
	}
	return 0;
}

static int dial(void)
{
	char path[4096], where[64] = "", *colon;
	struct sockaddr_in to = { .sin_family = AF_INET };
	int one = 1, fd;
	snprintf(path, sizeof path, "%s/address", getenv("USBSHIM"));
	fd = REAL(int, open, const char *, int, ...)(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	one = read(fd, where, sizeof where - 1) > 0;
	REAL(int, close, int)(fd);
	if (!one || !(colon = strrchr(where, ':')))
		return -1;
	*colon = 0;
	to.sin_port = htons(atoi(colon + 1));
	inet_pton(AF_INET, where, &to.sin_addr);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (void *)&to, sizeof to)) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static int import(const char *node, const char *how)   /* connected socket, or -1 with the server's errno */
{
	uint32_t ask[2] = { htonl(0x01118003), 0 }, got[2];
	char name[33] = "", record[312];
	int fd = dial(), err = ENODEV;
	if (fd < 0) {
		errno = err;
		return -1;
	}
	snprintf(name, sizeof name, "%s%s", node + strlen(NODES), how);
	if (!all(fd, ask, 8, 1) && !all(fd, name, 32, 1) && !all(fd, got, 8, 0)) {
		if (!got[1] && !all(fd, record, sizeof record, 0))
			return fd;
		err = ntohl(got[1]);
	}
	close(fd);
	errno = err;
	return -1;
}

/* ---- URBs ---------------------------------------------------------------------------------------------- */
static void mark(struct handle *h, int ready)    /* lock held: is there something to reap? */
{
	static char page[4096];
	if (ready && !h->marked)
		h->marked = read(h->pipe, page, sizeof page) > 0;
	else if (!ready && h->marked)
		h->marked = !(write(h->node, page, sizeof page) > 0);
}

static void finish(struct handle *h, struct pending *p)   /* lock held */
{
	struct pending **at;
	for (at = &h->live; *at != p; at = &(*at)->next);
	*at = p->next;
	p->next = NULL, p->finished = 1;
	if (p->urb) {
		*h->tail = p;
		h->tail = &p->next;
		mark(h, 1);
	}
	pthread_cond_broadcast(&h->cond);
}

static int deliver(struct handle *h, struct header *r, struct pending *p)
{
	struct usbdevfs_urb *urb = p->urb;
	int in = 0, actual = ntohl(r->b), count = ntohl(r->d);
	static __thread uint8_t data[1 << 20];
	if (urb)
		in = urb->endpoint & 0x80 || (urb->type == USBDEVFS_URB_TYPE_CONTROL && *(uint8_t *)urb->buffer & 0x80);
	if (in && (actual > (int)sizeof data || all(h->sock, data, actual, 0)))
		return -1;
	if (urb && urb->type == USBDEVFS_URB_TYPE_ISO) {
		struct iso packet[MAX_PACKETS];
		uint8_t *from = data;
		if (count > MAX_PACKETS || all(h->sock, packet, count * sizeof *packet, 0))
			return -1;
		urb->error_count = ntohl(r->e);
		for (int i = 0; i < count; i++) {
			int n = ntohl(packet[i].actual);
			memcpy((uint8_t *)urb->buffer + ntohl(packet[i].offset), from, n);
			from += n;
			urb->iso_frame_desc[i].actual_length = n;
			urb->iso_frame_desc[i].status = ntohl(packet[i].status);
		}
	} else if (urb && in)
		memcpy((uint8_t *)urb->buffer + (urb->type == USBDEVFS_URB_TYPE_CONTROL ? 8 : 0), data, actual);
	p->status = ntohl(r->a);
	if (urb) {
		urb->status = p->status;
		urb->actual_length = actual;
	}
	pthread_mutex_lock(&h->lock);
	finish(h, p);
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static void *receiver(void *arg)
{
	struct handle *h = arg;
	struct header r;
	while (!all(h->sock, &r, sizeof r, 0)) {
		struct pending *p;
		int submitted = ntohl(r.command) == 3;
		pthread_mutex_lock(&h->lock);
		for (p = h->live; p && (submitted ? p->seq : p->unlink_seq) != ntohl(r.seq); p = p->next);
		if (p && !submitted && r.a) {
			p->urb->status = -ENOENT;
			for (int i = 0; i < p->urb->number_of_packets; i++)
				p->urb->iso_frame_desc[i].actual_length = 0, p->urb->iso_frame_desc[i].status = -EXDEV;
			finish(h, p);
		}
		pthread_mutex_unlock(&h->lock);
		if (submitted && (!p || deliver(h, &r, p)))
			break;
	}
	pthread_mutex_lock(&h->lock);
	h->gone = 1;
	while (h->live) {
		h->live->status = -ENODEV;
		if (h->live->urb)
			h->live->urb->status = -ENODEV;
		finish(h, h->live);
	}
	close(h->pipe);                              /* poll() on the node now says POLLERR */
	close(h->sock);
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static int submit(struct handle *h, struct usbdevfs_urb *urb, const uint8_t *setup)
{
	int control = setup || urb->type == USBDEVFS_URB_TYPE_CONTROL, count = 0, length = urb ? urb->buffer_length : 0;
	struct header out = { .command = htonl(1) };
	struct iso packet[MAX_PACKETS];
	uint8_t *data = urb ? urb->buffer : NULL;
	struct pending *p = calloc(1, sizeof *p);
	int status = 0;
	if (control) {
		memcpy(out.setup, setup ? setup : data, 8);
		if (!setup)
			data += 8, length -= 8;
		out.direction = htonl(out.setup[0] >> 7);
	} else {
		out.ep = htonl(urb->endpoint & 15);
		out.direction = htonl(urb->endpoint >> 7);
	}
	if (urb && urb->type == USBDEVFS_URB_TYPE_ISO) {
		length = 0;
		for (count = 0; count < urb->number_of_packets && count < MAX_PACKETS; count++) {
			packet[count] = (struct iso){ htonl(length), htonl(urb->iso_frame_desc[count].length), 0, 0 };
			length += urb->iso_frame_desc[count].length;
		}
	}
	out.b = htonl(length);
	out.d = htonl(count);
	pthread_mutex_lock(&h->lock);
	if (h->gone) {
		pthread_mutex_unlock(&h->lock);
		free(p);
		errno = ENODEV;
		return -1;
	}
	p->urb = urb, p->seq = ++h->seq, p->next = h->live, h->live = p;
	out.seq = htonl(p->seq);
	all(h->sock, &out, sizeof out, 1);
	if (!out.direction && length > 0)
		all(h->sock, data, length, 1);
	if (count)
		all(h->sock, packet, count * sizeof *packet, 1);
	if (setup) {
		while (!p->finished)
			pthread_cond_wait(&h->cond, &h->lock);
		status = p->status;
		free(p);
	}
	pthread_mutex_unlock(&h->lock);
	errno = -status;
	return status ? -1 : 0;
}

static int discard(struct handle *h, struct usbdevfs_urb *urb)
{
	struct header out = { .command = htonl(2) };
	struct pending *p;
	int result = -1;
	pthread_mutex_lock(&h->lock);
	for (p = h->live; p && (p->urb != urb || p->unlink_seq); p = p->next);
	if (p && !h->gone) {
		p->unlink_seq = ++h->seq;
		out.seq = htonl(p->unlink_seq);
		out.a = htonl(p->seq);
		result = all(h->sock, &out, sizeof out, 1);
	}
	pthread_mutex_unlock(&h->lock);
	errno = h->gone ? ENODEV : EINVAL;
	return result;
}

static int reap(struct handle *h, void **out, int wait)
{
	struct pending *p;
	pthread_mutex_lock(&h->lock);
	while (wait && !h->done && !h->gone)
		pthread_cond_wait(&h->cond, &h->lock);
	if ((p = h->done)) {
		*out = p->urb;
		if (!(h->done = p->next))
			h->tail = &h->done;
		free(p);
	}
	if (!h->done && !h->gone)
		mark(h, 0);
	pthread_mutex_unlock(&h->lock);
	errno = h->gone ? ENODEV : EAGAIN;
	return p ? 0 : -1;
}

static int usbfs(struct handle *h, unsigned long code, void *arg)
{
	uint8_t set[8] = { 1, 11 };                  /* SET_INTERFACE */
	uint8_t claim[8] = { 0x40, 0xC1, 1 };        /* vendor request to the server: USB/IP knows no claims */
	switch (code) {
	case USBDEVFS_SUBMITURB:
		return submit(h, arg, NULL);
	case USBDEVFS_DISCARDURB:
		return discard(h, arg);
	case USBDEVFS_REAPURB:
	case USBDEVFS_REAPURBNDELAY:
		return reap(h, arg, code == USBDEVFS_REAPURB);
	case USBDEVFS_SETINTERFACE:
		set[2] = ((struct usbdevfs_setinterface *)arg)->altsetting;
		set[4] = ((struct usbdevfs_setinterface *)arg)->interface;
		return submit(h, NULL, set);
	case USBDEVFS_RELEASEINTERFACE:              /* the kernel goes back to altsetting 0, too */
		set[4] = claim[4] = *(unsigned *)arg;
		claim[2] = 0;
		return submit(h, NULL, set) | submit(h, NULL, claim);
	case USBDEVFS_GET_CAPABILITIES:
		*(uint32_t *)arg = USBDEVFS_CAP_ZERO_PACKET | USBDEVFS_CAP_NO_PACKET_SIZE_LIM
			| USBDEVFS_CAP_REAP_AFTER_DISCONNECT;
		return 0;
	case USBDEVFS_GETDRIVER:
	case USBDEVFS_IOCTL:                         /* no kernel driver is bound */
		errno = ENODATA;
		return -1;
	case USBDEVFS_CLAIMINTERFACE:                /* both structures begin with the number of the interface */
	case USBDEVFS_DISCONNECT_CLAIM:
		claim[4] = *(unsigned *)arg;
		return submit(h, NULL, claim);
	case USBDEVFS_SETCONFIGURATION:
	case USBDEVFS_CLEAR_HALT:
	case USBDEVFS_RESET:
		errno = ENODEV;
		return h->gone ? -1 : 0;
	}
	errno = ENOTTY;
	return -1;
}

/* ---- the node ------------------------------------------------------------------------------------------- */
int open_node(const char *path)
{
	int ends[2], sock;
	struct handle *h;
	if ((sock = import(path, "")) < 0)
		return -1;
	h = calloc(1, sizeof *h);
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) {
		free(h);
		close(sock);
		return -1;
	}
	fcntl(ends[1], F_SETPIPE_SZ, 4096);
	h->pipe = ends[0], h->node = ends[1], h->sock = sock, h->tail = &h->done, h->marked = 1, h->owner = getpid();
	mark(h, 0);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->cond, NULL);
	pthread_mutex_lock(&table);
	h->next = handles, handles = h;
	pthread_mutex_unlock(&table);
	pthread_t thread;
	pthread_create(&thread, NULL, receiver, h);
	pthread_detach(thread);
	return h->node;
}

int try_node(const char *path)
{
	int sock = import(path, "?");
	return sock < 0 ? -1 : close(sock);
}

int ioctl(int fd, unsigned long code, ...)
{
	static int (*real)(int, unsigned long, ...);
	struct handle *h = NULL;
	va_list v;
	va_start(v, code);
	void *arg = va_arg(v, void *);
	va_end(v);
	if (_IOC_TYPE(code) == 'U') {
		pthread_mutex_lock(&table);
		for (h = handles; h && h->node != fd; h = h->next);
		pthread_mutex_unlock(&table);
	}
	if (!real)
		real = dlsym(RTLD_NEXT, "ioctl");
	return h ? usbfs(h, code & 0xFFFFFFFF, arg) : real(fd, code, arg);
}

int close(int fd)
{
	static int (*real)(int);
	struct handle **at, *h;
	if (!real)
		real = dlsym(RTLD_NEXT, "close");
	pthread_mutex_lock(&table);
	for (at = &handles; (h = *at) && h->node != fd; at = &h->next);
	if (h && h->owner == getpid()) {             /* a forked child closes its copies, not the device */
		*at = h->next;
		shutdown(h->sock, SHUT_RDWR);            /* the receiver ends; the small handle stays allocated */
	}
	pthread_mutex_unlock(&table);
	return real(fd);
}
