package layering

import (
	"os"
	"path/filepath"
	"testing"
)

// outsider is a program of somebody who imports the core.
const outsider = `package main

import (
	"fmt"

	"github.com/portcullis-k8s/portcullis/pkg/check"
	"github.com/portcullis-k8s/portcullis/pkg/ledger"
	"github.com/portcullis-k8s/portcullis/pkg/ports"
)

func main() {
	held := &ledger.Ledger{}
	held.Replace(ports.Owner{Ref: ports.Ref{Kind: "Service", Namespace: "default", Name: "app1"}}, []ports.Claim{{
		Socket: ports.MustParseSocket("*:30062/TCP"), Kind: ports.NodePort, Scope: ports.EverywhereScope(),
	}})
	w := &check.Workload{Owner: ports.Owner{Ref: ports.Ref{Kind: "Pod", Namespace: "default", Name: "web"}}, IsPod: true}
	w.Claims = []ports.Claim{{Socket: ports.MustParseSocket("0.0.0.0:30062/TCP"), Kind: ports.HostPort, Owner: &w.Owner}}
	for _, f := range check.Check(check.Input{Workload: w, Held: held.Snapshot(), Settings: &check.Settings{}}) {
		fmt.Println(f.Code, f.Holder.Ref)
	}
}
`

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
