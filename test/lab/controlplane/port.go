package controlplane

import (
	"fmt"
	"runtime"
	"syscall"
)

// ports are TCP ports of 127.0.0.1 that are kept free for the components.
type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager, scheduler int

	sockets []int
}

func reservePorts() (p ports, err error) {
	for _, port := range []*int{&p.etcdClient, &p.etcdPeer, &p.apiServer, &p.controllerManager, &p.scheduler} {
		if *port, err = p.reserve(); err != nil {
			p.release()
			return ports{}, fmt.Errorf("reserving a port of 127.0.0.1: %w", err)
		}
	}
	return p, nil
}

// reserve takes a port that the kernel picks and keeps a socket bound to it that does not listen. On Linux the kernel
// then picks that port for nobody else, yet lets a component listen on it, as SO_REUSEADDR (which every Go listener
// sets too) allows. Elsewhere the port is merely likely to stay free.
func (p *ports) reserve() (int, error) {
	syscall.ForkLock.RLock() // no child may inherit the socket
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return 0, err
	}
	if runtime.GOOS == "linux" {
		p.sockets = append(p.sockets, socket)
	} else {
		defer syscall.Close(socket)
	}
	if err := syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	address, err := syscall.Getsockname(socket)
	if err != nil {
		return 0, err
	}
	return address.(*syscall.SockaddrInet4).Port, nil
}

func (p *ports) release() {
	for _, s := range p.sockets {
		_ = syscall.Close(s)
	}
	p.sockets = nil
}

// ReservePort returns a TCP port of 127.0.0.1 that is kept free for a program of the caller's, also while that is not
// running, until release is called.
func ReservePort() (port int, release func(), err error) {
	p := &ports{}
	port, err = p.reserve()
	return port, p.release, err
}
