# 001_df27e34ee1479877.txt, Syntax
from multiprocessing import Process

p = Process(target=function_name, args=(arg1, arg2))
p.start()
p.join()
