//go:build !linux

package child

import "syscall"

// endsWithParent can promise nothing here: there is no death signal. The child stays in the process group, so that at
// least an interrupt from the terminal reaches it.
func endsWithParent() *syscall.SysProcAttr { return nil }
