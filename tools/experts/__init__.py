"""tools/experts"""
