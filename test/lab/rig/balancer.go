package rig

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer stands in for a Service in front of several replicas: it follows their readiness, and gives each new connection
// to one that is ready. What it does not do: no connection is moved once it stands, as a Service's is not either.
type Balancer struct {
	listener net.Listener
	replicas []*Replica
	ready    []atomic.Bool
	next     atomic.Uint64
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// NewBalancer listens on loopback until Close.
func NewBalancer(ctx context.Context, replicas ...*Replica) (*Balancer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &Balancer{listener: listener, replicas: replicas, ready: make([]atomic.Bool, len(replicas)), cancel: cancel}
	for i := range replicas {
		b.work.Go(func() { b.follow(ctx, i) })
	}
	b.work.Go(func() { b.accept(ctx) })
	return b, nil
}

// URL is where the replicas are reached.
func (b *Balancer) URL() string { return "https://" + b.listener.Addr().String() }

// Close ends the balancer and its connections.
func (b *Balancer) Close() {
	b.cancel()
	_ = b.listener.Close()
	b.work.Wait()
}

// follow asks a replica whether it is ready, as a kubelet does, but more often.
func (b *Balancer) follow(ctx context.Context, i int) {
	for {
		b.ready[i].Store(b.replicas[i].Ready(ctx) == nil)
		select {
		case <-ctx.Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (b *Balancer) accept(ctx context.Context) {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return
		}
		b.work.Go(func() { b.serve(ctx, client) })
	}
}

// serve joins a connection with one to a replica. Where none is ready the connection is dropped.
func (b *Balancer) serve(ctx context.Context, client net.Conn) {
	defer client.Close()
	replica := b.dial()
	if replica == nil {
		return
	}
	defer replica.Close()
	stop := context.AfterFunc(ctx, func() {
		_ = client.Close()
		_ = replica.Close()
	})
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(replica, client)
		_ = replica.Close()
	}()
	_, _ = io.Copy(client, replica)
	_ = client.Close()
	<-done
}

func (b *Balancer) dial() net.Conn {
	for range b.replicas {
		i := int(b.next.Add(1) % uint64(len(b.replicas)))
		if !b.ready[i].Load() {
			continue
		}
		if conn, err := net.DialTimeout("tcp", local(b.replicas[i].port), time.Second); err == nil {
			return conn
		}
	}
	return nil
}
