// Package text prints rules as the tools of a node do, and reads what they print: iptables-save and iptables-restore,
// nft, ipvsadm and ipset. The parsers are strict: what they do not know is an error that names it and its line, as a
// rule that is half understood would let a walk end in the wrong place.
package text
