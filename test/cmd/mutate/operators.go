package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"strconv"
)

// site is a node of a file, with the nodes that it lies in: the file first, the parent last.
type site struct {
	source  source
	node    ast.Node
	parents []ast.Node
}

func (s site) parent() ast.Node {
	if len(s.parents) == 0 {
		return s.node
	}
	return s.parents[len(s.parents)-1]
}

// edit replaces what lies between two positions by a text.
type edit struct {
	from, to token.Pos
	text     string
}

// operator returns the edits that it knows for a node. Types are not known to it: an edit may give code that does not
// compile.
type operator func(site) []edit

func operators() []operator {
	return []operator{
		binaryOperator,
		integer,
		boolLiteral,
		condition,
		boolResult,
		removedStatement,
		jump,
		removedCase,
		emptyBody,
	}
}

// binaryOperator turns a comparison into its negation and moves its boundary, and swaps && with || and + with -.
func binaryOperator(s site) []edit {
	b, ok := s.node.(*ast.BinaryExpr)
	if !ok || (b.Op == token.ADD && (isText(b.X) || isText(b.Y))) {
		return nil
	}
	var edits []edit
	for _, op := range otherOperators(b.Op) {
		edits = append(edits, edit{b.OpPos, b.OpPos + token.Pos(len(b.Op.String())), op.String()})
	}
	return edits
}

// otherOperators begins with the negation if op is a comparison.
func otherOperators(op token.Token) []token.Token {
	switch op {
	case token.EQL:
		return []token.Token{token.NEQ}
	case token.NEQ:
		return []token.Token{token.EQL}
	case token.LSS:
		return []token.Token{token.GEQ, token.LEQ}
	case token.LEQ:
		return []token.Token{token.GTR, token.LSS}
	case token.GTR:
		return []token.Token{token.LEQ, token.GEQ}
	case token.GEQ:
		return []token.Token{token.LSS, token.GTR}
	case token.LAND:
		return []token.Token{token.LOR}
	case token.LOR:
		return []token.Token{token.LAND}
	case token.ADD:
		return []token.Token{token.SUB}
	case token.SUB:
		return []token.Token{token.ADD}
	default:
		return nil
	}
}

func isComparison(op token.Token) bool {
	switch op {
	case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
		return true
	default:
		return false
	}
}

// isText reports whether e is a string literal, or a sum with one in it.
func isText(e ast.Expr) bool {
	switch e := ast.Unparen(e).(type) {
	case *ast.BasicLit:
		return e.Kind == token.STRING
	case *ast.BinaryExpr:
		return e.Op == token.ADD && (isText(e.X) || isText(e.Y))
	}
	return false
}

// integer makes a constant larger and smaller by one. Lengths of array types and capacities stay as they are.
func integer(s site) []edit {
	literal, ok := s.node.(*ast.BasicLit)
	if !ok || literal.Kind != token.INT || isCapacity(s) {
		return nil
	}
	if _, ok := s.parent().(*ast.ArrayType); ok {
		return nil
	}
	n, err := strconv.ParseInt(literal.Value, 0, 64)
	if err != nil {
		return nil
	}
	return []edit{
		{literal.Pos(), literal.End(), strconv.FormatInt(n+1, 10)},
		{literal.Pos(), literal.End(), strconv.FormatInt(n-1, 10)},
	}
}

// isCapacity reports whether the node is the third argument of make, or a term of it: it changes the speed only.
func isCapacity(s site) bool {
	for _, parent := range s.parents {
		call, ok := parent.(*ast.CallExpr)
		if !ok || len(call.Args) != 3 {
			continue
		}
		f, ok := call.Fun.(*ast.Ident)
		if ok && f.Name == "make" && call.Args[2].Pos() <= s.node.Pos() {
			return true
		}
	}
	return false
}

// boolLiteral turns true into false, and false into true.
func boolLiteral(s site) []edit {
	if e, ok := s.node.(ast.Expr); ok && isBoolLiteral(e) {
		return []edit{s.negation(e)}
	}
	return nil
}

func isBoolLiteral(e ast.Expr) bool {
	name, ok := e.(*ast.Ident)
	return ok && (name.Name == "true" || name.Name == "false")
}

// condition negates the condition of an if or for statement.
func condition(s site) []edit {
	switch n := s.node.(type) {
	case *ast.IfStmt:
		return []edit{s.negation(n.Cond)}
	case *ast.ForStmt:
		if n.Cond != nil {
			return []edit{s.negation(n.Cond)}
		}
	}
	return nil
}

// boolResult negates a bool that is returned.
func boolResult(s site) []edit {
	statement, ok := s.node.(*ast.ReturnStmt)
	if !ok {
		return nil
	}
	types := resultTypes(s.parents)
	if len(types) != len(statement.Results) {
		return nil
	}
	var edits []edit
	for i, result := range statement.Results {
		if name, ok := types[i].(*ast.Ident); ok && name.Name == "bool" {
			edits = append(edits, s.negation(result))
		}
	}
	return edits
}

// resultTypes returns the types of the results of the function that is the last among nodes, one for each result.
func resultTypes(nodes []ast.Node) []ast.Expr {
	var results *ast.FieldList
	for _, n := range nodes {
		switch n := n.(type) {
		case *ast.FuncDecl:
			results = n.Type.Results
		case *ast.FuncLit:
			results = n.Type.Results
		}
	}
	if results == nil {
		return nil
	}
	var types []ast.Expr
	for _, field := range results.List {
		for range max(1, len(field.Names)) {
			types = append(types, field.Type)
		}
	}
	return types
}

// negation is the shortest edit that negates e: two operators that negate the same expression give the same edit.
func (s site) negation(e ast.Expr) edit {
	whole := s.source.textOf(e.Pos(), e.End())
	switch e := ast.Unparen(e).(type) {
	case *ast.UnaryExpr:
		if e.Op == token.NOT {
			return edit{e.Pos(), e.End(), s.source.textOf(e.X.Pos(), e.X.End())}
		}
	case *ast.BinaryExpr:
		if isComparison(e.Op) {
			return edit{e.OpPos, e.OpPos + token.Pos(len(e.Op.String())), otherOperators(e.Op)[0].String()}
		}
		return edit{e.Pos(), e.End(), "!(" + s.source.textOf(e.Pos(), e.End()) + ")"}
	case *ast.Ident:
		if isBoolLiteral(e) {
			return edit{e.Pos(), e.End(), strconv.FormatBool(e.Name == "false")}
		}
	}
	return edit{e.Pos(), e.End(), "!" + whole}
}

// removedStatement removes a call, an assignment, or an increment from a list of statements. A variable that is only
// defined stays: without it the code would not compile.
func removedStatement(s site) []edit {
	if !isInList(s) {
		return nil
	}
	switch n := s.node.(type) {
	case *ast.ExprStmt:
		if _, ok := n.X.(*ast.CallExpr); !ok {
			return nil
		}
	case *ast.AssignStmt:
		if n.Tok == token.DEFINE || isBlank(n.Lhs) {
			return nil
		}
	case *ast.IncDecStmt:
	default:
		return nil
	}
	return []edit{{s.node.Pos(), s.node.End(), ""}}
}

// isInList reports whether the node is a statement of its own, not a part of another, as that which ends a for clause.
func isInList(s site) bool {
	switch parent := s.parent().(type) {
	case *ast.BlockStmt, *ast.CaseClause:
		return true
	case *ast.CommClause:
		return parent.Comm != s.node
	}
	return false
}

// isBlank reports whether an assignment to these changes nothing.
func isBlank(targets []ast.Expr) bool {
	for _, t := range targets {
		if name, ok := t.(*ast.Ident); !ok || name.Name != "_" {
			return false
		}
	}
	return true
}

// jump swaps continue with break, and removes them.
func jump(s site) []edit {
	b, ok := s.node.(*ast.BranchStmt)
	if !ok {
		return nil
	}
	end := b.TokPos + token.Pos(len(b.Tok.String()))
	switch b.Tok {
	case token.BREAK:
		return []edit{{b.TokPos, end, "continue"}, {b.Pos(), b.End(), ""}}
	case token.CONTINUE:
		return []edit{{b.TokPos, end, "break"}, {b.Pos(), b.End(), ""}}
	default:
		return nil
	}
}

// removedCase removes a case of a switch statement, with what it does.
func removedCase(s site) []edit {
	if clause, ok := s.node.(*ast.CaseClause); ok {
		return []edit{{clause.Pos(), clause.End(), ""}}
	}
	return nil
}

// emptyBody makes a function without results do nothing.
func emptyBody(s site) []edit {
	f, ok := s.node.(*ast.FuncDecl)
	if !ok || f.Body == nil || len(f.Body.List) == 0 || f.Type.Results != nil {
		return nil
	}
	return []edit{{f.Body.Pos(), f.Body.End(), "{}"}}
}

// shown is the part of the code that a reader needs to see to know what the edit does.
func (s site) shown(e edit) (from, to token.Pos) {
	switch n := s.node.(type) {
	case *ast.BasicLit, *ast.Ident:
		return s.parent().Pos(), s.parent().End()
	case *ast.BinaryExpr, *ast.ReturnStmt, *ast.BranchStmt:
		return n.Pos(), n.End()
	case *ast.IfStmt:
		return n.Cond.Pos(), n.Cond.End()
	case *ast.ForStmt:
		return n.Cond.Pos(), n.Cond.End()
	}
	return e.from, e.to
}

// functionName returns "Range.Size" or "NewRanges", or "package" outside of functions.
func functionName(nodes []ast.Node) string {
	for _, n := range nodes {
		f, ok := n.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if f.Recv == nil || len(f.Recv.List) == 0 {
			return f.Name.Name
		}
		return fmt.Sprintf("%s.%s", receiverName(f.Recv.List[0].Type), f.Name.Name)
	}
	return "package"
}

func receiverName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiverName(e.X)
	case *ast.IndexExpr:
		return receiverName(e.X)
	case *ast.IndexListExpr:
		return receiverName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return "?"
}
